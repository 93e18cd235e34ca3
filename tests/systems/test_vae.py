"""VAE and its arms: exact bounds, gradients' ways, the linear model, devices, conditions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.pipeline import training_stream
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.experiments.linear_vae import gaussian_data, linear_config, optimum
from jaxmedgen.losses.variational import gaussian_kl
from jaxmedgen.ops.principal_components import principal_angle
from jaxmedgen.systems import base, latent
from jaxmedgen.systems.shape.vae import PLAYER
from jaxmedgen.train.objectives import LossInputs
from jaxmedgen.train.parallel import ParallelSettings
from jaxmedgen.train.step import make_step
from tests.train.test_parallel import run as parallel_run

SMALL = {
    "data.shape": "(16, 16)",
    "data.train": "16",
    "data.validation": "0",
    "data.test": "8",
    "batch_size": "8",
}
TINY = {"model.widths": "(4, 4)", "model.neck": "8", "model.latents": "3", "criterion.warm_up": "0"}


@functools.cache
def small(argument, **overrides):
    """Configuration, sources and system of a small problem."""
    overrides = {k.replace("__", "."): v for k, v in overrides.items()}
    net = {} if "arm=p" in argument else TINY
    config = load_config(f"vae:cpu,{argument}", SMALL | net | overrides)
    sources = build_sources(config.data)
    return config, sources, base.build_system(config, sources.info)


def batch_of(source, count):
    records = [source[i] for i in range(count)]
    return {name: jnp.asarray(np.stack([r[name] for r in records])) for name in records[0]}


def test_the_linear_model_becomes_probabilistic_pca():
    """D = 20, 4 directions of signal: angle below 5 degrees, bound within 1 % of log p(x)."""
    train, test = gaussian_data(0)
    config = linear_config(0)
    info = DatasetInfo(("background",), ("x",), (1.0,), ())
    system = base.build_system(config, info)
    step = make_step(system.objectives(), system.players(), prepare=system.prepare)
    data, size = jnp.asarray(train), config.batch_size

    # Compiled well: five thousand steps at the tests' level take longer than its compilation.
    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 2})
    def fit(key):
        state = system.init(key, {})

        rows = jax.random.randint(key, (config.steps, size), 0, len(data))

        def body(state, rows):
            index = state.step * size + jnp.arange(size, dtype=jnp.int32)
            state, _ = step(state, {"image": data[rows], "index": index})
            return state, None

        state, _ = jax.lax.scan(body, state, rows)
        variables = base.evaluation_variables(state)
        keys = jax.random.split(key, len(test))
        bounds = system.bounds(variables, keys, {"image": jnp.asarray(test)}, 16)
        return variables, bounds.elbo.mean(), bounds.iwae.mean()

    variables, elbo, iwae = fit(jax.random.key(0))
    model, likelihood = optimum(train, test, 4)
    decoder = variables[PLAYER]["params"]["image"]["Dense_0"]["kernel"]
    assert principal_angle(decoder, model.weights) < 5
    assert abs(elbo - likelihood) < 0.01 * abs(likelihood) and elbo <= iwae + 0.02
    deviation = np.exp(variables[PLAYER]["params"]["log_deviation"])
    np.testing.assert_allclose(deviation**2, model.noise, rtol=0.1)


def test_the_loss_is_the_exact_negative_bound_and_gradients_take_the_right_ways():
    """Sums over pixels by scipy; KL moves encoder and prior net, reconstruction both halves."""
    _, sources, system = small("arm=cvae-learned")
    batch = batch_of(sources.train, 4)
    keys = jax.random.split(jax.random.key(1), 4)

    @jax.jit
    def look(key):
        variables = system.init(key, {}).players[PLAYER].evaluation_variables()
        noise = jax.vmap(lambda k: jax.random.normal(k, (3,)))(keys)
        inputs = LossInputs({PLAYER: variables}, {}, batch, keys, key, jnp.int32(0))
        loss, outputs = system._loss(inputs)

        def parts(params):
            given = (batch["target"],)
            out, posterior, prior = system.net.apply(
                {"params": params}, batch["image"], noise, given
            )
            distortion = system.criterion.distortion(batch["image"], out).sum()
            return jnp.stack([gaussian_kl(*posterior, *prior).sum(), distortion]), (
                out,
                posterior,
                prior,
            )

        slopes, found = jax.jacrev(parts, has_aux=True)(variables["params"])
        sizes = {
            name: sum(jnp.abs(g).reshape(2, -1).sum(1) for g in jax.tree.leaves(tree))
            for name, tree in slopes.items()
        }
        return loss, outputs.metrics, found, sizes

    loss, metrics, (logits, posterior, prior), sizes = look(jax.random.key(0))
    x, p = np.asarray(batch["image"], np.float64), special.expit(np.asarray(logits, np.float64))
    likelihood = (x * np.log(p) + (1 - x) * np.log1p(-p)).sum((1, 2, 3))
    (m, lv), (n, lp) = ((np.asarray(a, np.float64) for a in pair) for pair in (posterior, prior))
    kl = 0.5 * (np.exp(lv - lp) + (m - n) ** 2 / np.exp(lp) - 1 - lv + lp).sum(1)
    np.testing.assert_allclose(loss, (kl - likelihood).mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["elbo"], -loss, rtol=1e-5)
    assert -likelihood.mean() > 100  # 256 pixels of about log 2: no mean over them
    assert (sizes["features"] > 0).all() and (sizes["head"] > 0).all()
    assert sizes["image"][0] == 0 < sizes["image"][1]
    assert sizes["prior_net"][1] == 0 < sizes["prior_net"][0]


def test_devices_agree():
    """Noise, conditions and bound of the global batch are those of one device."""
    settings = {"model__architecture": "mlp", "optimizer__learning_rate": "1e-4"}
    _, sources, system = small("arm=cvae-learned", **settings)

    def stream():
        return training_stream(sources.train, batch_size=8, seed=0, num_threads=0)

    one, many = (
        parallel_run(system, layout, 2, make_stream=stream)[0]
        for layout in (ParallelSettings(data=1), ParallelSettings(backend="pmap", data=2))
    )
    for a, b in zip(one, many):
        for name in a:
            np.testing.assert_allclose(b[name], a[name], rtol=2e-4, atol=1e-3, err_msg=name)


@pytest.mark.parametrize(("arm", "beta", "prior", "sees"), [
    ("ae", 0, "standard", True), ("beta", 4, "standard", True), ("mlp", 1, "standard", True),
    ("cvae", 1, "standard", True), ("cvae-decoder", 1, "standard", False),
])  # fmt: skip
def test_arms_are_what_they_say(arm, beta, prior, sees):
    _, _, system = small(f"arm={arm}")
    assert system.criterion.beta == beta and system.net.prior == prior
    assert system.net.encoder_sees == sees and system.stochastic == (arm != "ae")
    state = jax.eval_shape(system.init, jax.random.key(0), {})
    heads = state.players[PLAYER].params
    assert ("head" in heads) == (arm != "ae")
    assert isinstance(system, latent.CanGenerate) and isinstance(system, base.CanShow)
    if arm == "ae":
        with pytest.raises(ValueError, match="no posterior and no bound"):
            system.bounds({}, jax.random.split(jax.random.key(0), 1), {})


def test_volumes_and_all_losses_build():
    """3D masks of several classes; every loss traces to a number."""
    for loss in ("bce", "l2_norm", "l2_sq", "l1", "dice", "ce", "gaussian"):
        config = load_config(f"vae:gpu,loss={loss}", TINY | {"data.shape": "(9, 8, 6)"})
        system = base.build_system(config, DatasetInfo(("b", "a", "c"), ("t1",), (1.0,) * 3, ()))
        label = jnp.zeros((2, 9, 8, 6), jnp.int32)

        def loss_of(key, system=system, label=label):
            variables = system.init(key, {}).players[PLAYER].evaluation_variables()
            keys = jax.random.split(key, 2)
            batch = {"label": label}
            inputs = LossInputs({PLAYER: variables}, {}, batch, keys, key, jnp.int32(0))
            return system._loss(inputs)[0]

        value = jax.eval_shape(loss_of, jax.random.key(0))
        assert value.shape == () and system.net.shape[-1] == (3 if loss == "ce" else 2)


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"criterion\.reconstruction='best'"):
        small("arm=vae", criterion__reconstruction="best")
    with pytest.raises(ValueError, match="needs a condition"):
        small("arm=vae", model__prior="learned")
    _, _, system = small("arm=cvae")
    with pytest.raises(ValueError, match="no 'target' to condition on"):
        system.decode_levels({}, {"z": jnp.zeros((1, 3))}, {"image": jnp.zeros((1, 16, 16, 1))})
    with pytest.raises(ValueError, match="no likelihood and has no bound"):
        small("arm=vae,loss=dice")[2].criterion.log_likelihood(*[jnp.zeros((1, 2, 2, 1))] * 2)
