"""A whole training step of the label maps' beta-VAE: ours against PyTorch's, in one run.

    pip install -e '.[bench]'
    python -m benchmarks.label_vae_step --rounds 5

64^2 maps of 4 classes, channels 16-32-64-128, batch 32, 16 latent dimensions, cross-entropy summed
over pixels and a Kullback-Leibler term, Adam, float32. Each side has a process of its own with the
same number of threads; they take turns, and the medians over the rounds are compared. Before any
timing both compute the loss from the same weights and noise, which must agree. Prints a line and
one of JSON.
"""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.timing.training import agreement, flat, system_step, torch_step
from benchmarks.timing.turns import add_arguments, measure, print_json, serve_side

SHAPE, CLASSES, LATENTS = (64, 64), 4, 16
FEATURES = (16, 32, 64, 128)
BETA = 3.75


def main() -> None:
    """Runs both sides in turn and prints the ratio of their medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, batch=32, steps=3)
    args = parser.parse_args()
    if args.worker:
        rng = np.random.default_rng(0)
        label = rng.integers(0, CLASSES, size=(args.batch, *SHAPE)).astype(np.int32)
        noise = rng.normal(size=(args.batch, LATENTS)).astype(np.float32)
        build = jaxmedgen_side if args.worker == "jaxmedgen" else torch_side
        serve_side(args, lambda: build(label, noise, args))
        return
    result = measure("label_vae_step", args)
    print_json("label_vae_step", args, **result)


def jaxmedgen_side(
    label: np.ndarray, noise: np.ndarray, args: argparse.Namespace
) -> tuple[Callable[[], float], float]:
    """Our step as `bin/train` compiles it; weights and loss are written for the other side."""
    import jax
    import jax.numpy as jnp

    from jaxmedgen.configuration import load_config
    from jaxmedgen.data.sources import DatasetInfo
    from jaxmedgen.losses.label_maps import label_reconstruction_loss
    from jaxmedgen.losses.variational import gaussian_kl
    from jaxmedgen.systems.base import build_system
    from jaxmedgen.systems.shape.label_vae import PLAYER

    config = load_config("label_deformation:cpu")
    info = DatasetInfo(("background", "a", "b", "c"), (), (1.0, 1.0), ())
    system = build_system(config, info)
    batch = {"label": jnp.asarray(label), "index": jnp.arange(len(label), dtype=jnp.int32)}
    state = jax.jit(system.init)(jax.random.key(0), batch)
    player = state.players[PLAYER]

    def loss(params, statistics):
        (scores, mean, log_variance), _ = system.net.apply(
            {"params": params, **statistics},
            jax.nn.one_hot(label, CLASSES),
            noise,
            True,
            mutable=["batch_stats"],
        )
        divergence = gaussian_kl(mean, log_variance).sum(-1).mean()
        return label_reconstruction_loss(scores, batch["label"]) + BETA * divergence

    value = float(jax.jit(loss)(player.params, player.variables))
    np.savez(args.exchange, loss=value, **flat(player.params))
    return system_step(system, state, batch), 0.0


def torch_side(
    label: np.ndarray, noise: np.ndarray, args: argparse.Namespace
) -> tuple[Callable[[], float], float]:
    """The same step in PyTorch."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(args.threads)
    target = torch.tensor(label, dtype=torch.long)
    onehot = functional.one_hot(target, CLASSES).movedim(-1, 1).float()
    onehot = onehot.contiguous(memory_format=torch.channels_last)
    with np.load(args.exchange) as weights:
        net = _torch_net(weights)
        expected = float(weights["loss"])

    def loss(noise):
        scores, mean, log_variance = net(onehot, noise)
        terms = functional.cross_entropy(scores, target, reduction="sum") / len(target)
        divergence = 0.5 * (log_variance.exp() + mean**2 - 1 - log_variance).sum(-1).mean()
        return terms + BETA * divergence

    with torch.no_grad():
        difference = agreement(loss(torch.tensor(noise)), expected)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)
    return torch_step(adam, lambda: loss(torch.randn(noise.shape))), difference


def _torch_net(weights: Mapping[str, np.ndarray]) -> Any:
    """The network of `nets.label_autoencoder` with given weights."""
    import torch
    from torch import nn
    from torch.nn import functional

    from benchmarks.timing.torch_weights import convolution, dense

    def block(name: str, stride: int = 1, activate: bool = True) -> nn.Sequential:
        conv = convolution(weights, f"{name}/Conv_0", stride)
        layers: list[nn.Module] = [conv, nn.BatchNorm2d(conv.out_channels)]
        if stride == 2:
            layers.insert(0, nn.ZeroPad2d((0, 1, 0, 1)))  # where an even axis is padded
        return nn.Sequential(*layers, *([nn.LeakyReLU(0.01)] if activate else []))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            count = 3 * len(FEATURES)
            down = (block(f"encoder/ConvNorm_{k}", 2 if k % 3 == 0 else 1) for k in range(count))
            self.down = nn.Sequential(*down)
            self.neck = nn.ModuleList(dense(weights, f"encoder/Dense_{k}") for k in range(4))
            self.back = nn.Sequential(*(dense(weights, f"decoder/Dense_{k}") for k in range(3)))
            rise = 2 * len(FEATURES)
            self.up = nn.ModuleList(block(f"decoder/ConvNorm_{k}") for k in range(rise))
            self.last = nn.Sequential(
                block(f"decoder/ConvNorm_{rise}", activate=False),
                convolution(weights, "decoder/Conv_0"),
            )
            self.to(memory_format=torch.channels_last)

        def forward(self, x, noise):
            x = self.down(x).movedim(1, -1).flatten(1)
            x = self.neck[1](self.neck[0](x))
            mean, log_variance = self.neck[2](x), self.neck[3](x)
            z = self.back(mean + torch.exp(0.5 * log_variance) * noise)
            side = [n // 2 ** len(FEATURES) for n in SHAPE]
            x = z.view(-1, *side, FEATURES[-1]).movedim(-1, 1)
            for k, layer in enumerate(self.up):
                if k % 2 == 0:
                    x = functional.interpolate(
                        x, scale_factor=2, mode="bilinear", align_corners=True
                    )
                x = layer(x)
            return self.last(x), mean, log_variance

    return Net()


if __name__ == "__main__":
    main()
