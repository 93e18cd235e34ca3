"""A whole training step of the VAEs of ventricles: ours against PyTorch's, in one run.

    pip install -e '.[bench]'
    python -m benchmarks.vae_step --size 40 --model vae
    python -m benchmarks.vae_step --size 80 --model ladder

Two channels, convolutions 8-16-32 (40^3) or 8-16-32-64 (80^3) and back by transposed ones, batch
norm; a latent vector of 64 dimensions, or a ladder of 64, 32 and 2; Dice, Kullback-Leibler terms
and the classifier's cross-entropy, Adam, float32. Each side has a process of its own with the same
number of threads; they take turns, and the medians over the rounds are compared. Before any timing
both compute the loss of the same weights, shapes and noise, which must agree. Prints a line and one
of JSON.
"""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.timing.training import agreement, flat, system_step, torch_step
from benchmarks.timing.turns import add_arguments, measure, print_json, serve_side

LATENTS = {"vae": (64,), "ladder": (64, 32, 2)}
FEATURES = {40: (8, 16, 32), 80: (8, 16, 32, 64)}
ALPHA, BETA = 0.01, 0.1


def main() -> None:
    """Runs both sides in turn and prints the ratio of their medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, batch=4, steps=2)
    parser.add_argument("--size", type=int, choices=tuple(FEATURES), default=40)
    parser.add_argument("--model", choices=tuple(LATENTS), default="vae")
    args = parser.parse_args()
    if args.worker:
        rng = np.random.default_rng(0)
        image = (rng.random((args.batch, *(args.size,) * 3, 2)) < 0.3).astype(np.float32)
        target = rng.integers(0, 2, args.batch).astype(np.int32)
        noise = [rng.normal(size=(args.batch, n)).astype(np.float32) for n in LATENTS[args.model]]
        build = jaxmedgen_side if args.worker == "jaxmedgen" else torch_side
        serve_side(args, lambda: build(image, target, noise, args))
        return
    chosen = {"size": args.size, "model": args.model}
    result = measure("vae_step", args, label=f"{args.model} {args.size}^3: ", **chosen)
    print_json("vae_step", args, **chosen, **result)


def jaxmedgen_side(
    image: np.ndarray, target: np.ndarray, noise: list[np.ndarray], args: argparse.Namespace
) -> tuple[Callable[[], float], float]:
    """Our step as `bin/train` compiles it; weights and loss are written for the other side."""
    import jax
    import jax.numpy as jnp
    import optax

    from jaxmedgen.configuration import load_config
    from jaxmedgen.data.sources import DatasetInfo
    from jaxmedgen.losses.variational import gaussian_kl
    from jaxmedgen.systems.base import build_system
    from jaxmedgen.systems.shape.lvae_criterion import soft_dice
    from jaxmedgen.systems.shape.lvae_levels import PREDICTOR, VAE

    config = load_config("lvae:cpu" if args.model == "ladder" else "lvae:cpu,arm=vae64")
    latents = LATENTS[args.model]
    with config.unlocked():
        config.data.shape, config.net.features = (args.size,) * 3, FEATURES[args.size]
        config.net.latents, config.net.upsampling, config.net.squeeze = latents, "transposed", 2
        config.criterion.divergence = (ALPHA,) * len(latents)
        config.criterion.classification = BETA
        config.criterion.ramp_steps = 0
        config.optimizer.clip_norm = 0.0
    system = build_system(config, DatasetInfo(("healthy", "HCM"), ("ED", "ES"), (1.0,) * 3, ()))
    index = jnp.arange(len(image), dtype=jnp.int32)
    batch = {"image": jnp.asarray(image), "target": jnp.asarray(target), "index": index}
    state = jax.jit(system.init)(jax.random.key(0), batch)
    players = state.players

    def loss(players):
        variables = {name: player.evaluation_variables() for name, player in players.items()}
        given = {f"z{k}": jnp.asarray(x) for k, x in enumerate(noise)}
        found, _ = system.net.apply(
            variables[VAE], batch["image"], given, True, mutable=["batch_stats"]
        )
        scores, _ = system.predictor.apply(
            variables[PREDICTOR], found.latents[system.top], True, mutable=["batch_stats"]
        )
        kl = sum(gaussian_kl(*found.posteriors[n], *found.priors[n]).sum(-1).mean()
                 for n in system.levels)  # fmt: skip
        entropy = optax.softmax_cross_entropy_with_integer_labels(scores, batch["target"]).mean()
        dice = soft_dice(batch["image"], jax.nn.sigmoid(found.logits)).mean(0)
        return (1 - dice).sum() + ALPHA * kl + BETA * entropy

    value = float(jax.jit(loss)(players))
    weights = flat({name: player.params for name, player in players.items()})
    np.savez(args.exchange, loss=value, **weights)
    return system_step(system, state, batch), 0.0


def torch_side(
    image: np.ndarray, target: np.ndarray, noise: list[np.ndarray], args: argparse.Namespace
) -> tuple[Callable[[], float], float]:
    """The same step in PyTorch."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(args.threads)
    x = torch.tensor(image).movedim(-1, 1).contiguous()
    answer = torch.tensor(target, dtype=torch.long)
    with np.load(args.exchange) as weights:
        net = _torch_net(weights, args)
        expected = float(weights["loss"])

    def loss(noise):
        logits, kl, scores = net(x, noise)
        p, space = torch.sigmoid(logits), (2, 3, 4)
        dice = (2 * (x * p).sum(space) + 1e-5) / (x.sum(space) + p.sum(space) + 1e-5)
        entropy = functional.cross_entropy(scores, answer)
        return (1 - dice.mean(0)).sum() + ALPHA * kl + BETA * entropy

    with torch.no_grad():
        difference = agreement(loss([torch.tensor(n) for n in noise]), expected)
    adam = torch.optim.Adam(net.parameters(), lr=2e-3)
    return torch_step(adam, lambda: loss([torch.randn(n.shape) for n in noise])), difference


def _torch_net(weights: Mapping[str, np.ndarray], args: argparse.Namespace) -> Any:
    """`nets.ladder` and its classifier with given weights."""
    import torch
    from torch import nn

    from benchmarks.timing import torch_weights as given

    stages, levels = len(FEATURES[args.size]), len(LATENTS[args.model])

    def rising(name: str) -> nn.Module:
        kernel = weights[f"{name}/kernel"]
        layer = nn.ConvTranspose3d(*kernel.shape[3:], 3, 2, bias=False)
        layer.weight = given.placed(kernel, (3, 4, 0, 1, 2))
        return layer

    def dense(name: str, activation: Any) -> nn.Module:
        layer = given.dense(weights, f"{name}/Dense_0")
        return nn.Sequential(layer, nn.BatchNorm1d(layer.out_features), activation())

    def normed(layer: nn.Module) -> nn.Sequential:
        return nn.Sequential(layer, nn.BatchNorm3d(layer.out_channels), nn.ReLU())

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            down = [
                normed(given.convolution(weights, f"vae/encoder/Conv_{k}", 2))
                for k in range(stages)
            ]
            self.down = nn.ModuleList(down)
            self.squeeze = normed(given.convolution(weights, f"vae/encoder/Conv_{stages}"))
            self.upward = nn.ModuleList(dense(f"vae/upward_{k}", nn.ELU) for k in range(levels))
            self.highest = dense("vae/highest", nn.Tanh) if levels > 1 else nn.Identity()
            self.heads = nn.ModuleList(
                given.gaussian_head(weights, f"vae/heads_{k}") for k in range(levels)
            )
            self.context = nn.ModuleList(
                nn.Sequential(*(dense(f"vae/downward_{k}/DenseNorm_{i}", nn.ReLU) for i in (0, 1)))
                for k in range(levels - 1)
            )
            self.priors = nn.ModuleList(
                given.gaussian_head(weights, f"vae/downward_{k}/GaussianHead_0")
                for k in range(levels - 1)
            )
            self.start = dense("vae/decoder/DenseNorm_0", nn.ReLU)
            self.first = normed(given.convolution(weights, "vae/decoder/Conv_0"))
            rise = (rising(f"vae/decoder/ConvTranspose_{k}") for k in range(stages))
            self.rise = nn.ModuleList(rise)
            self.norms = nn.ModuleList(nn.BatchNorm3d(layer.out_channels) for layer in self.rise)
            self.last = nn.Sequential(
                normed(given.convolution(weights, "vae/decoder/Conv_1")),
                given.convolution(weights, "vae/decoder/Conv_2"),
            )
            self.predictor = nn.Sequential(
                dense("predictor/DenseNorm_0", nn.ReLU), given.dense(weights, "predictor/Dense_0")
            )

        def forward(self, x, noise):
            for layer in self.down:
                x = layer(given.pad_same(x))
            x = self.squeeze(x).movedim(1, -1).flatten(1)
            features = []
            for layer in self.upward:
                x = layer(x)
                features.append(x)
            kl, above, top = 0.0, None, None
            for k in reversed(range(levels)):
                seen = self.highest(features[k]) if above is None else features[k]
                mean, variance = (part(seen) for part in self.heads[k].values())
                prior = torch.zeros_like(mean), torch.zeros_like(variance)
                if above is not None:
                    context = self.context[k](above)
                    prior = tuple(part(context) for part in self.priors[k].values())
                    merged = -torch.logaddexp(-variance, -prior[1])
                    mean = mean * (merged - variance).exp() + prior[0] * (merged - prior[1]).exp()
                    variance = merged
                ratio = variance - prior[1]
                distance = (mean - prior[0]) ** 2 * (-prior[1]).exp()
                kl = kl + 0.5 * (ratio.exp() - 1 - ratio + distance).sum(-1).mean()
                above = mean + (0.5 * variance).exp() * noise[k]
                top = above if top is None else top
            side = args.size // 2**stages
            x = self.first(self.start(above).view(-1, 1, side, side, side))
            for layer, norm in zip(self.rise, self.norms):
                x = torch.relu(norm(layer(x)[:, :, :-1, :-1, :-1]))
            return self.last(x), kl, self.predictor(top)

    return Net()


if __name__ == "__main__":
    main()
