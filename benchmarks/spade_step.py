"""A step of label-conditional synthesis, generator and discriminator: ours against PyTorch's.

    pip install -e '.[bench]'
    python -m benchmarks.spade_step --size cpu --rounds 5
    python -m benchmarks.spade_step --write 100

SPADE generator from label maps alone, two-scale conditional discriminator, hinge loss and feature
matching, Adam at two rates, float32 (sizes of configs/cardiac_synthesis.py). Each side has a
process of its own with the same number of threads; they take turns and the medians over the rounds
are compared. Before any timing both make images from the same weights, which must agree.
``--write N`` times the writing of N labelled stacks as a data set of nnU-Net instead.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.timing.training import flat, system_step
from benchmarks.timing.turns import add_arguments, measure, print_json, serve_side

LEVELS = {"cpu": 3, "gpu": 4}


def main() -> None:
    """Runs both sides in turn and prints the ratio of their medians, or writes a data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=tuple(LEVELS), default="cpu")
    parser.add_argument("--write", type=int, default=0, help="number of labelled stacks")
    add_arguments(parser, batch=8, steps=5)
    args = parser.parse_args()
    if args.worker:
        build = jaxmedgen_side if args.worker == "jaxmedgen" else torch_side
        serve_side(args, lambda: build(args))
    elif args.write:
        write(args.write, args.size)
    else:
        compare(args)


def compare(args: argparse.Namespace) -> None:
    """Both sides."""
    label = f"{args.size}, batch {args.batch}: "
    result = measure("spade_step", args, label=label, what="images", size=args.size)
    print_json("spade_step", args, size=args.size, **result)


def batch_of(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Images in [-1, 1] and label maps of phantoms."""
    from jaxmedgen.data.phantoms.short_axis import ShortAxis

    side = 8 * 2 ** LEVELS[args.size]
    source = ShortAxis(args.batch, (side, side))
    records = [source[i] for i in range(args.batch)]
    image = np.stack([2 * r["image"] - 1 for r in records])
    return image, np.stack([r["label"] for r in records])


def jaxmedgen_side(args: argparse.Namespace) -> tuple[Callable[[], float], float]:
    """Our step as `bin/train` compiles it; weights and images are written for the other side."""
    import jax
    import jax.numpy as jnp

    from jaxmedgen.augment.mixing import one_hot
    from jaxmedgen.systems.synthesis.conditional_gan import DISCRIMINATOR
    from jaxmedgen.systems.synthesis.rendering import GENERATOR

    system = _system(args.size)
    image, label = map(jnp.asarray, batch_of(args))
    quickly = {"xla_backend_optimization_level": 0}  # initial weights are drawn once
    state = jax.jit(lambda key: system.init(key, {}), compiler_options=quickly)(jax.random.key(0))
    weights = {}
    for name in (GENERATOR, DISCRIMINATOR):
        player = state.players[name]
        # Drawn larger than training starts with: images that agree must not be all but blank.
        player.params.update(jax.tree.map(lambda x: 10 * x, player.params))
        for tree in (player.params, player.variables.get("spectral", {})):
            weights |= flat(tree)
    generator = state.players[GENERATOR]
    variables = {"params": generator.params, **generator.variables}
    made = system.net.apply(
        variables, one_hot(label, 4), jnp.zeros((len(label), 0)), image, train=True,
        mutable=["batch_stats"],
    )[0].image  # fmt: skip
    np.savez(args.exchange, made=np.asarray(made), **weights)
    batch = {"image": image, "label": label, "index": jnp.arange(len(image), dtype=jnp.int32)}
    return system_step(system, state, batch, metric="discriminator/loss"), 0.0


def torch_side(args: argparse.Namespace) -> tuple[Callable[[], float], float]:
    """The same step in PyTorch."""
    import torch

    from benchmarks.spade_peers import torch_spade as peer

    torch.set_num_threads(args.threads)
    with np.load(args.exchange) as file:
        weights = {name: file[name] for name in file.files}
    image, label = batch_of(args)
    side, levels = image.shape[1], LEVELS[args.size]
    one_hot = np.eye(4, dtype=np.float32)[label]
    labels = peer.label_maps(one_hot, [side // 2**i for i in range(levels + 1)])
    image = torch.tensor(image).permute(0, 3, 1, 2).contiguous()
    generator, discriminator = peer.Generator(weights), peer.Discriminator(weights)
    full = labels[side]
    with torch.no_grad():
        made = generator(labels).permute(0, 2, 3, 1).numpy()
    difference = float(np.abs(made - weights["made"]).max())
    if difference > 1e-3 or np.abs(made).max() < 0.1:
        raise SystemExit(f"images of the same weights differ by {difference}: not the same model")
    rates = {"betas": (0.0, 0.9)}
    players = [
        torch.optim.Adam(generator.parameters(), lr=1e-4, **rates),
        torch.optim.Adam(discriminator.parameters(), lr=4e-4, **rates),
    ]

    def step():
        players[0].zero_grad(set_to_none=True)
        discriminator.requires_grad_(False)
        value = peer.generator_loss(discriminator, full, image, generator(labels))
        value.backward()
        players[0].step()
        discriminator.requires_grad_(True)
        players[1].zero_grad(set_to_none=True)
        with torch.no_grad():
            fake = generator(labels)
        value = peer.discriminator_loss(discriminator, full, image, fake)
        value.backward()
        players[1].step()
        return value.item()

    return step, difference


def write(count: int, size: str) -> None:
    """Times the writing of labelled stacks by an untrained generator."""
    import jax

    from jaxmedgen.configuration import load_config
    from jaxmedgen.data.build import build_sources
    from jaxmedgen.experiments.samples import write_samples
    from jaxmedgen.systems.base import build_system, evaluation_variables

    config = load_config(f"cardiac_synthesis:{size},arm=vae", {"data.train": "8", "data.test": "0"})
    sources = build_sources(config.data)
    system = build_system(config, sources.info)
    quickly = {"xla_backend_optimization_level": 0}
    init = jax.jit(lambda key: system.init(key, {}), compiler_options=quickly)
    variables = evaluation_variables(init(jax.random.key(0)))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        output = Path(folder) / "Dataset900_Synthetic"
        write_samples(config, sources, system, variables, output, count, 0, "nnunet")
        seconds = time.perf_counter() - start
        megabytes = sum(p.stat().st_size for p in output.rglob("*.nii.gz")) / 1e6
    print(f"{count} labelled stacks, {megabytes:.1f} MB: {seconds:.1f} s (compilation included)")
    print(json.dumps({"benchmark": "spade_write", "count": count, "seconds": seconds}))


def _system(size: str):
    """The label-only arm without perceptual loss."""
    from jaxmedgen.configuration import load_config
    from jaxmedgen.data.phantoms.short_axis import ShortAxis
    from jaxmedgen.systems.base import build_system

    options = "arm=label,ablation=no_perceptual"
    settings = {"dtype": "float32", "optimizer.ema_decay": "0.0"}
    config = load_config(f"cardiac_synthesis:{size},{options}", settings)
    return build_system(config, ShortAxis(1).info)


if __name__ == "__main__":
    main()
