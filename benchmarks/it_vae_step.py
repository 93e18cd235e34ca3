"""A whole IT-VAE training step: ours against the same C-VITAE in PyTorch, in one run.

    pip install -e '.[bench]'
    python -m benchmarks.it_vae_step --maps affinediff svf cpab --rounds 5

28^2 images, the reference implementation's perceptrons (512-256), 2 + 2 latent dimensions,
Bernoulli bound, Adam, float32; maps are affine exponentials, velocities on 8 x 8 control points (7
squarings) or CPAB on 2 x 4 cells (50 substeps, as in libcpab). Each side has a process of its own
with the same number of threads; they take turns, the one at work while the other waits, and the
medians over the rounds are compared. Before any timing both compute the bound from the same weights
and noise, which must agree. Prints a line for each family of maps and one of JSON.
"""

import argparse
from collections.abc import Callable

import numpy as np

from benchmarks.timing.training import agreement, flat, system_step, torch_step
from benchmarks.timing.turns import add_arguments, measure, print_json, serve_side

SHAPE = (28, 28)
CELLS = (2, 4)
MAPS = ("affinediff", "svf", "cpab")


def main() -> None:
    """Runs both sides in turn and prints the ratio of their medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--maps", nargs="+", default=list(MAPS), choices=MAPS)
    add_arguments(parser, batch=256, steps=5)
    args = parser.parse_args()
    if args.worker:
        rng = np.random.default_rng(0)
        image = rng.uniform(size=(args.batch, *SHAPE, 1)).astype(np.float32) ** 4
        noise = rng.normal(size=(args.batch, 4)).astype(np.float32)
        build = jaxmedgen_side if args.worker == "jaxmedgen" else torch_side
        serve_side(args, lambda: build(image, noise, args))
        return
    results = []
    for maps in args.maps:
        result = measure("it_vae_step", args, label=f"{maps}: ", what="bounds", maps=maps)
        results.append({"maps": maps, **result})
    print_json("it_vae_step", args, results=results)


def jaxmedgen_side(
    image: np.ndarray, noise: np.ndarray, args: argparse.Namespace
) -> tuple[Callable[[], float], float]:
    """Our step as `bin/train` compiles it; weights and bound are written for the other side."""
    import jax
    import jax.numpy as jnp

    from jaxmedgen.configuration import load_config
    from jaxmedgen.data.sources import DatasetInfo
    from jaxmedgen.systems.base import build_system
    from jaxmedgen.systems.deformation import vitae_bound
    from jaxmedgen.systems.deformation.it_vae import PLAYER

    config = load_config(f"it_vae:cpu,transformer={args.maps[0]}", {"criterion.warm_up": "0"})
    info = DatasetInfo(("background",), ("ink",), (1.0, 1.0), ())
    system = build_system(config, info)
    batch = {"image": jnp.asarray(image), "index": jnp.arange(len(image), dtype=jnp.int32)}
    state = jax.jit(system.init)(jax.random.key(0), batch)
    player = state.players[PLAYER]
    # The last layer starts at zero: bounds that agree would say nothing of the maps.
    last = player.params["perspective_decoder"]["Dense_2"]
    last["kernel"] = 0.05 * jax.random.normal(jax.random.key(1), last["kernel"].shape)

    def bound(params, statistics):
        found, _ = system.net.apply(
            {"params": params, **statistics}, image, noise, train=True, mutable=["batch_stats"]
        )
        likelihood = vitae_bound.log_likelihood(system.criterion, "bernoulli", image, found, 0)
        divergence = vitae_bound.weighted_divergence(system.criterion, found)
        return (divergence - likelihood).mean()

    value = float(jax.jit(bound)(player.params, player.variables))
    np.savez(args.exchange, bound=value, **flat(player.params))
    return system_step(system, state, batch), 0.0


def torch_side(
    image: np.ndarray, noise: np.ndarray, args: argparse.Namespace
) -> tuple[Callable[[], float], float]:
    """The same step in PyTorch."""
    import jax.numpy as jnp
    import torch

    from benchmarks.it_vae_peers import torch_vitae as peer
    from jaxmedgen.ops.control_grids import bspline_field
    from jaxmedgen.ops.cpab_tessellation import Tessellation, nodal_basis

    torch.set_num_threads(args.threads)
    if args.maps[0] == "affinediff":
        maps = peer.Affine(SHAPE)
    elif args.maps[0] == "svf":
        # Weights of the control points, read off unit vectors along one axis.
        units = np.eye(8, dtype=np.float32)[None, :, None].repeat(8, 2)
        rows = np.asarray(bspline_field(jnp.asarray(units), SHAPE))
        maps = peer.Velocity(SHAPE, [rows[0, :, 0]] * 2)
    else:
        maps = peer.Cpab(SHAPE, CELLS, nodal_basis(Tessellation(CELLS)))
    x = torch.tensor(image).movedim(-1, 1).contiguous()
    with np.load(args.exchange) as weights:
        net = peer.Vitae(weights, SHAPE, maps)
        expected = float(weights["bound"])
    with torch.no_grad():
        share = agreement(net(x, torch.tensor(noise)), expected, limit=1e-3, what="bounds")
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)
    # Bounds are compared in nats.
    return torch_step(adam, lambda: net(x, torch.randn(noise.shape))), share * abs(expected)


if __name__ == "__main__":
    main()
