"""A whole training step of the volume from planes (HCVAE): ours against PyTorch's, in one run.

    pip install -e '.[bench]'
    python -m benchmarks.planes_step

`configs/hcvae.py:cpu`: 32^3 volumes of three 32^2 planes, three levels of 8 dimensions with learned
priors, nested view dropout, batch norm, summed cross-entropy and Kullback-Leibler terms, Adam,
float32. Each side has a process of its own with the same number of threads; they take turns, and
the medians over the rounds are compared. Before any timing both compute the loss of the same
weights, volumes, planes and noise, one view missing, which must agree. Prints a line and one of
JSON.
"""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.timing.training import agreement, flat, system_step, torch_step
from benchmarks.timing.turns import add_arguments, measure, print_json, serve_side

SIZE, LEVELS, VIEWS, STAGES = 32, (8, 8, 8), 3, 4


def main() -> None:
    """Runs both sides in turn and prints the ratio of their medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, batch=8, steps=3)
    args = parser.parse_args()
    if args.worker:
        rng = np.random.default_rng(0)
        label = (rng.random((args.batch, *(SIZE,) * 3)) < 0.3).astype(np.int32)
        planes = rng.random((args.batch, SIZE, SIZE, VIEWS)).astype(np.float32)
        kept = np.tile(np.array([1, 1, 0], np.float32), (args.batch, 1))
        noise = rng.normal(size=(args.batch, sum(LEVELS))).astype(np.float32)
        build = jaxmedgen_side if args.worker == "jaxmedgen" else torch_side
        serve_side(args, lambda: build(label, planes, kept, noise, args))
        return
    result = measure("planes_step", args)
    print_json("planes_step", args, **result)


def jaxmedgen_side(
    label: np.ndarray,
    planes: np.ndarray,
    kept: np.ndarray,
    noise: np.ndarray,
    args: argparse.Namespace,
) -> tuple[Callable[[], float], float]:
    """Our step as `bin/train` compiles it; weights and loss are written for the other side."""
    import jax
    import jax.numpy as jnp

    from jaxmedgen.configuration import load_config
    from jaxmedgen.data.sources import DatasetInfo
    from jaxmedgen.losses.reconstruction import reconstruction_loss
    from jaxmedgen.nets.hierarchical_latent import level_divergences
    from jaxmedgen.systems.base import build_system
    from jaxmedgen.systems.shape.hcvae import PLAYER

    config = load_config("hcvae:cpu", {"criterion.warm_up": "0"})
    views = ("axial", "sagittal", "coronal")
    info = DatasetInfo(("background", "head"), views, (150 / SIZE,) * 3, ())
    system = build_system(config, info)
    batch = {
        "label": jnp.asarray(label),
        "planes": jnp.asarray(planes),
        "available": jnp.ones_like(kept),
        "index": jnp.arange(len(label), dtype=jnp.int32),
    }
    state = jax.jit(lambda key: system.init(key, {}))(jax.random.key(0))
    player = state.players[PLAYER]
    # Null vectors start as zeros, a missing view would not show.
    rng = np.random.default_rng(1)
    params = jax.tree_util.tree_map_with_path(
        lambda path, x: (
            jnp.asarray(rng.normal(size=x.shape), x.dtype)
            if "null" in jax.tree_util.keystr(path)
            else x
        ),
        player.params,
    )

    def loss(params):
        volume = (batch["label"] > 0).astype(jnp.float32)
        found, _ = system.net.apply(
            {"params": params, **player.variables},
            batch["planes"], kept, volume, noise, True, mutable=["batch_stats"],
        )  # fmt: skip
        fit = reconstruction_loss("bce", volume[..., None], found.logits[..., None])
        return fit + sum(kl.mean() for kl in level_divergences(found.posteriors, found.priors))

    value = float(jax.jit(loss)(params))
    np.savez(args.exchange, loss=value, **flat(params))
    return system_step(system, state, batch, prepare=system.prepare), 0.0


def torch_side(
    label: np.ndarray,
    planes: np.ndarray,
    kept: np.ndarray,
    noise: np.ndarray,
    args: argparse.Namespace,
) -> tuple[Callable[[], float], float]:
    """The same step in PyTorch."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(args.threads)
    volume = torch.tensor(label > 0, dtype=torch.float32)
    views = torch.tensor(planes).movedim(-1, 1).contiguous()
    with np.load(args.exchange) as weights:
        net = _torch_net(weights)
        expected = float(weights["loss"])

    def loss(kept, noise):
        logits, kl = net(views, kept, volume, noise)
        fit = functional.binary_cross_entropy_with_logits(logits, volume, reduction="sum")
        return fit / len(volume) + kl

    with torch.no_grad():
        difference = agreement(loss(torch.tensor(kept), torch.tensor(noise)), expected)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.9, 0.995))

    def drawn():
        shown = torch.randint(0, VIEWS, (len(volume), 1))
        return loss((torch.arange(VIEWS) <= shown).float(), torch.randn(noise.shape))

    return torch_step(adam, drawn), difference


def _torch_net(weights: Mapping[str, np.ndarray]) -> Any:
    """`nets.volume_from_planes.PlanesToVolume` of three levels with given weights."""
    import torch
    from torch import nn
    from torch.nn.functional import elu, interpolate

    from benchmarks.timing import torch_weights as given

    def norm(name: str, n: int) -> nn.Module:
        scale = weights[f"{name}/scale"]
        layer = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[n](len(scale))
        layer.weight = given.placed(scale, (0,))
        layer.bias = given.placed(weights[f"{name}/bias"], (0,))
        return layer

    class Encoder(nn.Module):
        def __init__(self, name: str, n: int):
            super().__init__()
            steps = range(STAGES)
            self.down = nn.ModuleList(
                given.convolution(weights, f"{name}/Conv_{k}", 2) for k in steps
            )
            self.norms = nn.ModuleList(norm(f"{name}/Norm_{k}", n) for k in steps)
            self.last = given.dense(weights, f"{name}/Dense_0")

        def forward(self, x):
            for layer, after in zip(self.down, self.norms):
                x = elu(after(layer(given.pad_same(x))))
            return elu(self.last(x.movedim(1, -1).flatten(1)))

    class Gaussian(nn.Module):
        def __init__(self, name: str):
            super().__init__()
            self.inner = given.dense(weights, f"{name}/Dense_0")
            self.head = given.gaussian_head(weights, f"{name}/GaussianHead_0")

        def forward(self, x):
            x = elu(self.inner(x))
            return self.head["mean"](x), self.head["log_variance"](x)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.views = nn.ModuleList(Encoder(f"planes/view{k}", 2) for k in range(VIEWS))
            nulls = (given.placed(weights[f"planes/null{k}"], (0,)) for k in range(VIEWS))
            self.nulls = nn.ParameterList(nulls)
            self.volume = Encoder("volume", 3)
            levels = range(len(LEVELS))
            self.priors = nn.ModuleList(Gaussian(f"latent/prior{k}") for k in levels)
            self.posteriors = nn.ModuleList(Gaussian(f"latent/posterior{k}") for k in levels)
            self.start = nn.ModuleList(given.dense(weights, f"decoder/Dense_{k}") for k in (0, 1))
            self.rise = nn.ModuleList(
                given.convolution(weights, f"decoder/Conv_{k}") for k in (0, 1)
            )
            self.norms = nn.ModuleList(norm(f"decoder/Norm_{k}", 3) for k in (0, 1))
            self.last = given.doubling(weights, "decoder/ConvTranspose_0")

        def forward(self, planes, kept, volume, noise):
            planes = torch.where(kept[:, :, None, None] > 0, planes, 0.0)
            codes = [
                torch.where(kept[:, k, None] > 0, encoder(planes[:, k : k + 1]), null)
                for k, (encoder, null) in enumerate(zip(self.views, self.nulls))
            ]
            features, drawn, kl = self.volume(volume[:, None]), [], 0.0
            for k, part in enumerate(noise.split(LEVELS, 1)):
                context = torch.cat([*drawn, *codes[: k + 1]], 1)
                before = self.priors[k](context)
                mean, log_variance = self.posteriors[k](torch.cat([features, context], 1))
                ratio = log_variance - before[1]
                distance = (mean - before[0]) ** 2 * (-before[1]).exp()
                kl = kl + 0.5 * (ratio.exp() - 1 - ratio + distance).sum(-1).mean()
                drawn.append(mean + (0.5 * log_variance).exp() * part)
            x = torch.cat([*drawn, *codes], 1)
            for layer in self.start:
                x = elu(layer(x))
            side = SIZE // 8
            x = x.view(len(x), side, side, side, -1).movedim(-1, 1).contiguous()
            for layer, after in zip(self.rise, self.norms):
                wide = interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)
                x = elu(after(layer(wide)))
            return self.last(x)[:, 0], kl

    return Net()


if __name__ == "__main__":
    main()
