"""A whole training step of the VAE of 2D masks: ours against PyTorch's, in one run.

    pip install -e '.[bench]'
    python -m benchmarks.image_vae_step

`configs/vae.py:cpu`: 32^2 masks, convolutions of 32, 64 and 64 channels, 16 latent dimensions,
summed cross-entropy and Kullback-Leibler term, Adam, float32. Each side has a process of its own
with the same number of threads; they take turns, and the medians over the rounds are compared.
Before any timing both compute the loss of the same weights, masks and noise, which must agree.
Prints a line and one of JSON.
"""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.timing.training import agreement, flat, system_step, torch_step
from benchmarks.timing.turns import add_arguments, measure, print_json, serve_side

SIZE, LATENTS, STAGES = 32, 16, 3


def main() -> None:
    """Runs both sides in turn and prints the ratio of their medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, batch=64, steps=5)
    args = parser.parse_args()
    if args.worker:
        rng = np.random.default_rng(0)
        image = (rng.random((args.batch, SIZE, SIZE, 1)) < 0.3).astype(np.float32)
        noise = rng.normal(size=(args.batch, LATENTS)).astype(np.float32)
        build = jaxmedgen_side if args.worker == "jaxmedgen" else torch_side
        serve_side(args, lambda: build(image, noise, args))
        return
    result = measure("image_vae_step", args)
    print_json("image_vae_step", args, **result)


def jaxmedgen_side(
    image: np.ndarray, noise: np.ndarray, args: argparse.Namespace
) -> tuple[Callable[[], float], float]:
    """Our step as `bin/train` compiles it; weights and loss are written for the other side."""
    import jax
    import jax.numpy as jnp

    from jaxmedgen.configuration import load_config
    from jaxmedgen.data.sources import DatasetInfo
    from jaxmedgen.losses.reconstruction import reconstruction_loss
    from jaxmedgen.losses.variational import gaussian_kl
    from jaxmedgen.systems.base import build_system
    from jaxmedgen.systems.shape.vae import PLAYER

    config = load_config("vae:cpu", {"criterion.warm_up": "0"})
    system = build_system(config, DatasetInfo(("background",), ("mask",), (1.0, 1.0), ()))
    batch = {"image": jnp.asarray(image), "index": jnp.arange(len(image), dtype=jnp.int32)}
    state = jax.jit(lambda key: system.init(key, {}))(jax.random.key(0))
    player = state.players[PLAYER]

    def loss(params):
        output, posterior, _ = system.net.apply({"params": params}, batch["image"], noise)
        fit = reconstruction_loss("bce", batch["image"], output)
        return fit + gaussian_kl(*posterior).sum(-1).mean()

    value = float(jax.jit(loss)(player.params))
    np.savez(args.exchange, loss=value, **flat(player.params))
    return system_step(system, state, batch), 0.0


def torch_side(
    image: np.ndarray, noise: np.ndarray, args: argparse.Namespace
) -> tuple[Callable[[], float], float]:
    """The same step in PyTorch."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(args.threads)
    x = torch.tensor(image).movedim(-1, 1).contiguous(memory_format=torch.channels_last)
    with np.load(args.exchange) as weights:
        net = _torch_net(weights).to(memory_format=torch.channels_last)
        expected = float(weights["loss"])

    def loss(noise):
        logits, mean, log_variance = net(x, noise)
        fit = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        kl = 0.5 * (log_variance.exp() + mean**2 - 1 - log_variance).sum(-1).mean()
        return fit + kl

    with torch.no_grad():
        difference = agreement(loss(torch.tensor(noise)), expected)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)
    return torch_step(adam, lambda: loss(torch.randn(noise.shape))), difference


def _torch_net(weights: Mapping[str, np.ndarray]) -> Any:
    """`nets.conditional_vae` without conditions, with given weights."""
    from torch import nn
    from torch.nn.functional import elu, interpolate

    from benchmarks.timing.torch_weights import convolution, dense, gaussian_head, pad_same

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            down = (convolution(weights, f"features/Conv_{k}", 2) for k in range(STAGES))
            self.down = nn.ModuleList(down)
            self.neck = dense(weights, "features/Dense_0")
            self.head = gaussian_head(weights, "head")
            self.start = nn.ModuleList(dense(weights, f"image/Dense_{k}") for k in (0, 1))
            rise = (convolution(weights, f"image/Conv_{k}") for k in range(STAGES + 1))
            self.rise = nn.ModuleList(rise)

        def forward(self, x, noise):
            for layer in self.down:
                x = elu(layer(pad_same(x)))
            x = elu(self.neck(x.movedim(1, -1).flatten(1)))
            mean, log_variance = self.head["mean"](x), self.head["log_variance"](x)
            z = mean + (0.5 * log_variance).exp() * noise
            for layer in self.start:
                z = elu(layer(z))
            side = SIZE // 2**STAGES
            # Ours are channels last: a view, in torch's memory format of that name.
            x = z.view(len(z), side, side, -1).movedim(-1, 1)
            for layer in self.rise[:-1]:
                x = elu(layer(interpolate(x, scale_factor=2, mode="nearest")))
            return self.rise[-1](x), mean, log_variance

    return Net()


if __name__ == "__main__":
    main()
