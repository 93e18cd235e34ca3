"""RHVAE against pythae (PyTorch): the same numbers of the same weights, then training and sampling.

    pip install -e '.[bench]'
    python -m benchmarks.rhvae --work train sample --rounds 5

One model, 20^2 images, hidden layers of 200, d = 6 (as `configs/rhvae.py:cpu`), Bernoulli, float32,
3 leapfrog steps. ``train``: forward, backward and Adam on one batch. ``sample``: 200 chains of 20
transitions with 15 leapfrog steps on the inverse volume of 120 centroids. Each side has a process
of its own with the same number of threads; they take turns and medians are compared. Before any
timing pythae computes the inverse metric, its log volume, log p(x, z) and one leapfrog step from
our weights; the largest difference is printed, and one above 1e-5 ends the benchmark. The leapfrog
is the published one (`frozen`); pythae's sampler has another gradient of the volume, of the same
cost.
"""

import argparse
from collections.abc import Callable

import numpy as np

from benchmarks.timing.training import flat, torch_step
from benchmarks.timing.turns import add_arguments, measure, print_json, serve_side

SHAPE, LATENTS, HIDDEN = (20, 20), 6, 200
TEMPERATURE, REGULARISATION, STEP = 0.8, 1e-3, 0.01
TOLERANCE = 1e-5
"""Of the largest value of each array."""
CHAINS, TRANSITIONS, LEAPFROGS = 200, 20, 15
UNITS = {"train": "step", "sample": "draw"}


def main() -> None:
    """Runs both sides in turn and prints the ratios of their medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", nargs="+", default=list(UNITS), choices=tuple(UNITS))
    add_arguments(parser, batch=120, steps=5)
    args = parser.parse_args()
    if args.worker:
        build = jaxmedgen_side if args.worker == "jaxmedgen" else pythae_side
        serve_side(args, lambda: build(args))
        return
    results = []
    for work in args.work:
        how = {"label": f"{work}: ", "what": "numbers", "peer": "pythae", "unit": UNITS[work]}
        results.append({"work": work, **measure("rhvae", args, **how, work=work)})
    print_json("rhvae", args, results=results)


def jaxmedgen_side(args: argparse.Namespace) -> tuple[Callable[[], float], float]:
    """Our step or sampler; weights and numbers are written for the other side."""
    import jax
    import jax.numpy as jnp

    from jaxmedgen.configuration import load_config
    from jaxmedgen.data.build import build_sources
    from jaxmedgen.losses.variational import gaussian_log_density
    from jaxmedgen.ops.generalized_leapfrog import generalized_leapfrog
    from jaxmedgen.ops.riemannian_metric import (
        CentroidMetric,
        geodesic_slope,
        inverse_log_volume,
        inverse_log_volume_gradient,
        inverse_metric,
    )
    from jaxmedgen.systems.base import build_system, evaluation_variables
    from jaxmedgen.systems.shape.rhvae_training import PLAYER
    from jaxmedgen.train.step import make_step

    settings = {
        "data.train": str(args.batch),
        "data.test": "0",
        "batch_size": str(args.batch),
        "model.kinds": "1",
        "model.condition": "",
        "model.latents": str(LATENTS),
        "model.hidden": str(HIDDEN),
        "sampling.transitions": str(TRANSITIONS),
        "sampling.leapfrogs": str(LEAPFROGS),
    }
    config = load_config("rhvae:cpu,arm=frozen", settings)
    sources = build_sources(config.data)
    system = build_system(config, sources.info)
    image = np.stack([sources.train[i]["image"] for i in range(args.batch)])
    number = jnp.arange(args.batch, dtype=jnp.int32)
    batch = {"image": jnp.asarray(image), "index": number, "case": number}
    state = jax.jit(system.init)(jax.random.key(0), batch)
    step = jax.jit(make_step(system.objectives(), system.players()))
    for _ in range(20):  # weights and centroids that are no longer those of an initialisation
        state, _ = step(state, batch)
    params = jax.tree.map(lambda x: x[0], state.players[PLAYER].params)

    @jax.jit
    def numbers(variables, noise, momentum):
        metric = CentroidMetric(*(x[0] for x in system.metric(variables)))
        z = metric.centroids + 0.3 * noise

        def joint(z):
            output = system.decode_one(params, z)
            return system.content.log_likelihood(image, output) + gaussian_log_density(z).sum(-1)

        def potential(z):
            slope = jax.grad(lambda z: joint(z).sum())(z)
            return -slope - inverse_log_volume_gradient(metric, z)[1]

        def kinetic(z, q):
            velocity, force = geodesic_slope(metric, z, q)
            return velocity, -force

        moved = generalized_leapfrog(
            kinetic, z, momentum, STEP, potential=potential, frozen=True
        )[:2]  # fmt: skip
        return {
            "z": z,
            "inverse": inverse_metric(metric, z),
            "volume": inverse_log_volume(metric, z),
            "joint": joint(z),
            "position": moved[0],
            "momentum": moved[1],
            "centroids": metric.centroids,
            "products": metric.products,
        }

    rng = np.random.default_rng(0)
    noise, momentum = rng.normal(size=(2, args.batch, LATENTS)).astype(np.float32)
    found = jax.tree.map(np.asarray, numbers(evaluation_variables(state), noise, momentum))
    np.savez(args.exchange, image=image, first=momentum, **found, **flat(params, "params"))
    if args.work[0] == "sample":
        draw = jax.jit(lambda v, k: system.decode(v, system.draw(v, k)))
        variables = evaluation_variables(state)
        keys = jax.random.split(jax.random.key(1), (1, CHAINS))
        return lambda: float(draw(variables, keys).sum()), 0.0
    states = [state]

    def advance():
        states[0], metrics = step(states[0], batch)
        return metrics["bound/loss"].item()

    return advance, 0.0


def pythae_side(args: argparse.Namespace) -> tuple[Callable[[], float], float]:
    """The same in pythae, from our weights."""
    import torch
    from pythae.data.datasets import BaseDataset
    from pythae.models import RHVAE, RHVAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder, BaseMetric
    from pythae.samplers import RHVAESampler, RHVAESamplerConfig

    from benchmarks.timing import torch_weights

    torch.set_num_threads(args.threads)
    given = np.load(args.exchange)

    def dense(name):
        return torch_weights.dense(given, f"params/{name}")

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.trunk = dense("encoder/Dense_0")
            self.mean, self.log_variance = dense("head/mean"), dense("head/log_variance")

        def forward(self, x):
            h = torch.relu(self.trunk(x.flatten(1)))
            return ModelOutput(embedding=self.mean(h), log_covariance=self.log_variance(h))

    class Metric(BaseMetric):
        def __init__(self):
            super().__init__()
            self.trunk = dense("metric_trunk/Dense_0")
            self.diagonal, self.below = dense("log_diagonal"), dense("below")

        def forward(self, x):
            h = torch.relu(self.trunk(x.flatten(1)))
            factor = torch.diag_embed(self.diagonal(h).exp())
            rows, columns = torch.tril_indices(LATENTS, LATENTS, -1)
            factor[:, rows, columns] = self.below(h)
            return ModelOutput(L=factor)

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = dense("decoder_in"), dense("decoder_out")

        def forward(self, z):
            x = torch.sigmoid(self.outer(torch.relu(self.inner(z))))
            return ModelOutput(reconstruction=x.reshape(-1, 1, *SHAPE))

    model = RHVAE(
        RHVAEConfig(
            input_dim=(1, *SHAPE),
            latent_dim=LATENTS,
            reconstruction_loss="bce",
            n_lf=3,
            eps_lf=STEP,
            beta_zero=0.3,
            temperature=TEMPERATURE,
            regularization=REGULARISATION,
        ),
        encoder=Encoder(),
        decoder=Decoder(),
        metric=Metric(),
    )
    x = torch.tensor(given["image"]).movedim(-1, 1).contiguous()
    model.M.append(torch.tensor(given["products"]))
    model.centroids.append(torch.tensor(given["centroids"]))
    model.update()
    z = torch.tensor(given["z"], requires_grad=True)
    q = torch.tensor(given["first"], requires_grad=True)

    def parts(z):
        inverse = model.G_inv(z)
        return model.decoder(z)["reconstruction"], inverse, -torch.logdet(inverse)

    image, inverse, log_det = parts(z)
    joint = model._log_p_xz(image, x, z)
    half = model._leap_step_1(image, x, z, q, inverse, log_det)
    position = model._leap_step_2(image, x, z, half, inverse, log_det)
    image, there, log_det_there = parts(position)
    momentum = model._leap_step_3(image, x, position, half, there, log_det_there)
    found = {
        "inverse": inverse,
        "volume": -0.5 * log_det,
        "joint": joint,
        "position": position,
        "momentum": momentum,
    }
    difference = max(
        float(np.max(np.abs(value.detach().numpy() - given[name])) / np.abs(given[name]).max())
        for name, value in found.items()
    )
    if difference > TOLERANCE:
        raise SystemExit(
            f"pythae's numbers of the same weights differ by {difference:.1e} of the largest, "
            f"more than {TOLERANCE:g}: not the same model, nothing is timed"
        )
    if args.work[0] == "sample":
        config = RHVAESamplerConfig(
            mcmc_steps_nbr=TRANSITIONS, n_lf=LEAPFROGS, eps_lf=0.05, beta_zero=1.0
        )
        sampler = RHVAESampler(model=model, sampler_config=config)
        return lambda: float(sampler.sample(CHAINS).sum()), difference
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    inputs = BaseDataset(data=x, labels=torch.zeros(len(x)))
    return torch_step(optimiser, lambda: model({"data": inputs.data}).loss), difference


if __name__ == "__main__":
    main()
