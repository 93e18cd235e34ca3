"""A whole GenSeg training step: ours against the same networks in PyTorch, in one run.

    pip install -e '.[bench]'
    python -m benchmarks.genseg_step --batch 16 --rounds 5

32^2 images, the networks of `configs/genseg.py:cpu` (codes of 48 + 16 channels, two scales of two
discriminators, spectral norms), discriminator and generator update with AMSGrad, float32. Each side
has a process of its own with the same number of threads; they take turns, the one at work while the
other waits, and the medians over the rounds are compared. Before any timing both compute their
losses from the same weights and images, which must agree. Prints a line and one of JSON.
"""

import argparse
from collections.abc import Callable

import numpy as np

from benchmarks.timing.training import flat
from benchmarks.timing.turns import add_arguments, measure, print_json, serve_side

SHAPE = (32, 32)
UNIQUE = 16
_ITERATIONS = 50
"""Power iterations before losses are compared: both sides' vectors have converged."""


def main() -> None:
    """Runs both sides in turn and prints the ratio of their medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, batch=16, steps=5)
    args = parser.parse_args()
    if args.worker:
        build = jaxmedgen_side if args.worker == "jaxmedgen" else torch_side
        serve_side(args, lambda: build(images(args.batch), args))
        return
    result = measure("genseg_step", args)
    print_json("genseg_step", args, **result)


def images(batch: int) -> dict[str, np.ndarray]:
    """A batch of noise with masks, every second one known."""
    rng = np.random.default_rng(0)
    present, absent = rng.uniform(size=(2, batch, *SHAPE, 1)).astype(np.float32)
    return {
        "image": present,
        "absent": absent,
        "prior": rng.normal(size=(batch, 4, 4, UNIQUE)).astype(np.float32),
        "label": (present[..., 0] > 0.9).astype(np.int32),
        "has_mask": (np.arange(batch) % 2).astype(np.float32),
    }


def jaxmedgen_side(
    data: dict[str, np.ndarray], args: argparse.Namespace
) -> tuple[Callable[[], float], float]:
    """Our step as `bin/train` compiles it; weights and losses are written for the other side."""
    import jax
    import jax.numpy as jnp

    from jaxmedgen.configuration import load_config
    from jaxmedgen.data.sources import DatasetInfo
    from jaxmedgen.systems.base import build_system
    from jaxmedgen.train.objectives import LossInputs
    from jaxmedgen.train.parallel import Parallel, ParallelSettings
    from jaxmedgen.train.step import make_step

    config = load_config("genseg:cpu,data=glyphs,switch=adaptive")
    info = DatasetInfo(("background", "digit"), ("ink",), (1.0, 1.0), ())
    system = build_system(config, info)
    count = len(data["image"])
    batch = {name: jnp.asarray(value) for name, value in data.items()}
    batch |= {"domain": jnp.zeros(count, jnp.int32), "index": jnp.arange(count, dtype=jnp.int32)}
    quickly = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
    state = jax.jit(system.init, compiler_options=quickly)(jax.random.key(0), batch)
    keys = jax.random.split(jax.random.key(1), count)

    def losses(variables):
        inputs = LossInputs(variables, {}, batch, keys, keys[0], state.step)
        found = {o.name: o.loss(inputs) for o in system.objectives()}
        for _, outputs in found.values():
            variables |= {n: {**variables[n], **u} for n, u in outputs.variables.items()}
        return {name: value for name, (value, _) in found.items()}, variables

    losses = jax.jit(losses, compiler_options=quickly)
    variables = {n: {"params": p.params, **p.variables} for n, p in state.players.items()}
    for _ in range(_ITERATIONS):
        found, variables = losses(variables)
    found = {name: float(value) for name, value in found.items()}
    weights = flat({name: player.params for name, player in state.players.items()})
    np.savez(args.exchange, **{f"loss_{k}": v for k, v in found.items()}, **weights)
    parallel = Parallel(ParallelSettings(**config.parallel))
    states, batch = [parallel.replicate(state)], parallel.put(batch)
    compiled = parallel.compile(make_step(system.objectives(), system.players()), states[0], batch)

    def step():
        states[0], metrics = compiled(states[0], batch)
        return metrics["generator/loss"].item()

    return step, 0.0


def torch_side(
    data: dict[str, np.ndarray], args: argparse.Namespace
) -> tuple[Callable[[], float], float]:
    """The same step in PyTorch."""
    import torch

    from benchmarks.genseg_peers.torch_genseg import GenSeg

    torch.set_num_threads(args.threads)
    with np.load(args.exchange) as weights:
        model = GenSeg(dict(weights), UNIQUE, levels=3, scales=2, depth=3)
        expected = float(weights["loss_discriminator"]), float(weights["loss_generator"])

    def first(x):
        return torch.tensor(x).movedim(-1, 1).contiguous()

    present, absent, prior = (first(data[name]) for name in ("image", "absent", "prior"))
    mask = torch.tensor(data["label"], dtype=torch.float32)
    known = torch.tensor(data["has_mask"])
    with torch.no_grad():
        made = model.translate(present, absent, prior)
        judged = float(model.judge_loss(present, absent, made[2], made[5]))
        value = float(model.generator_loss(made, present, absent, prior, mask, known))
    difference = max(abs(a - b) / abs(b) for a, b in zip((judged, value), expected))
    if difference > 1e-2:
        raise SystemExit(
            f"losses of the same weights are {judged}, {value} but {expected} on the other side: "
            "not the same model"
        )

    def step():
        return model.step(present, absent, prior, mask, known)[1]

    return step, difference


if __name__ == "__main__":
    main()
