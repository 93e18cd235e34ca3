"""The label-only SPADE generator and its two-scale discriminator in PyTorch, from our weights.

A plain re-statement of ``jaxmedgen/nets/spade.py`` and ``nets/discriminators.py`` for the benchmark
of their training step: same layers, same initial weights, hinge loss and feature matching.
"""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def _conv(weights: Mapping[str, np.ndarray], name: str, stride: int = 1, pad: int = 0) -> nn.Conv2d:
    """A convolution with the weights ``NAME/kernel`` (and ``NAME/bias``)."""
    kernel = torch.tensor(weights[f"{name}/kernel"]).permute(3, 2, 0, 1).contiguous()
    bias = weights.get(f"{name}/bias")
    layer = nn.Conv2d(
        kernel.shape[1], kernel.shape[0], kernel.shape[2], stride, pad, bias=bias is not None
    )
    layer.weight.data = kernel
    if bias is not None:
        layer.bias.data = torch.tensor(bias)
    return layer


def _spectral(weights: Mapping[str, np.ndarray], name: str, **settings: int) -> nn.Module:
    """The same of spectral norm one, its vector included."""
    layer = nn.utils.spectral_norm(_conv(weights, f"{name}/conv", **settings))
    layer.weight_u.data = torch.tensor(weights[f"{name}/norm/conv/kernel/u"])[0]
    return layer


class Spade(nn.Module):
    """Batch norm modulated by a label map."""

    def __init__(self, weights: Mapping[str, np.ndarray], name: str):
        super().__init__()
        self.shared = _conv(weights, f"{name}/shared", pad=1)
        self.gamma = _conv(weights, f"{name}/gamma", pad=1)
        self.beta = _conv(weights, f"{name}/beta", pad=1)
        self.norm = nn.BatchNorm2d(self.gamma.out_channels, affine=False)

    def forward(self, x, labels):
        """Modulated feature maps; label maps are given by their size."""
        hidden = F.relu(self.shared(labels[x.shape[-1]]))
        return self.norm(x) * (1 + self.gamma(hidden)) + self.beta(hidden)


class Block(nn.Module):
    """A residual block."""

    def __init__(self, weights: Mapping[str, np.ndarray], name: str):
        super().__init__()
        self.modulations = nn.ModuleList(Spade(weights, f"{name}/modulation_{i}") for i in range(2))
        self.convs = nn.ModuleList(_spectral(weights, f"{name}/conv_{i}", pad=1) for i in range(2))
        self.shortcut = None
        if f"{name}/conv_shortcut/conv/kernel" in weights:
            self.shortcut = _spectral(weights, f"{name}/conv_shortcut")
            self.modulation = Spade(weights, f"{name}/modulation_shortcut")

    def forward(self, x, labels):
        """Feature maps in, feature maps out."""
        y = x
        for modulation, conv in zip(self.modulations, self.convs):
            y = conv(F.leaky_relu(modulation(y, labels), 0.2))
        if self.shortcut is not None:
            x = self.shortcut(self.modulation(x, labels))
        return x + y


class Generator(nn.Module):
    """Label maps to images; the coarse map is made of the label map."""

    def __init__(self, weights: Mapping[str, np.ndarray]):
        super().__init__()
        names = sorted({k.split("/")[1] for k in weights if k.startswith("generator/")})
        coarse = [n for n in names if n.startswith("coarse_")]
        up = [n for n in names if n.startswith("up_")]
        self.start = _conv(weights, "generator/start", pad=1)
        self.coarse = nn.ModuleList(Block(weights, f"generator/{n}") for n in coarse)
        self.up = nn.ModuleList(Block(weights, f"generator/{n}") for n in up)
        self.image = _conv(weights, "generator/image", pad=1)

    def forward(self, labels):
        """Images of label maps at all sizes."""
        x = self.start(labels[min(labels)])
        for block in self.coarse:
            x = block(x, labels)
        for block in self.up:
            x = block(F.interpolate(x, scale_factor=2, mode="nearest"), labels)
        return torch.tanh(self.image(F.leaky_relu(x, 0.2)))


class Discriminator(nn.Module):
    """Two patch discriminators."""

    def __init__(self, weights: Mapping[str, np.ndarray]):
        super().__init__()
        self.scales = nn.ModuleList()
        for scale in range(2):
            count = len({
                k.split("/")[1] for k in weights if k.startswith(f"scale{scale}/SpectralConv_")
            })  # fmt: skip
            layers = nn.ModuleList()
            for i in range(count):
                name = f"scale{scale}/SpectralConv_{i}"
                stride = 2 if i < count - 2 else 1
                if i in (0, count - 1):
                    layers.append(_conv(weights, f"{name}/conv", stride, 2))
                else:
                    layers.append(_spectral(weights, name, stride=stride, pad=2))
            self.scales.append(layers)

    def forward(self, pair):
        """Maps by scale, logits last."""
        found = []
        for scale, layers in enumerate(self.scales):
            x = pair
            if scale:
                x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
            maps = []
            for i, layer in enumerate(layers):
                x = layer(x)
                if i < len(layers) - 1:
                    x = F.leaky_relu(F.instance_norm(x) if i else x, 0.2)
                maps.append(x)
            found.append(maps)
        return found


def label_maps(label: np.ndarray, sizes: list[int]) -> dict[int, torch.Tensor]:
    """One-hot label maps ``[b, k, s, s]`` at several sizes, nearest by voxel centres."""
    full = torch.tensor(label).permute(0, 3, 1, 2)
    old, found = full.shape[-1], {}
    for new in sizes:
        rows = torch.tensor([(2 * i + 1) * old // (2 * new) for i in range(new)])
        found[new] = full[:, :, rows][:, :, :, rows].contiguous()
    return found


def generator_loss(discriminator, label, image, fake):
    """Hinge and feature matching (weight 10), means over scales."""
    fakes = discriminator(torch.cat([label, fake], 1))
    with torch.no_grad():
        reals = discriminator(torch.cat([label, image], 1))
    value = -sum(maps[-1].mean() for maps in fakes) / len(fakes)
    for ours, theirs in zip(fakes, reals):
        value = value + 10 / len(fakes) * sum(
            (f - r).abs().mean() for f, r in zip(ours[:-1], theirs[:-1])
        )
    return value


def discriminator_loss(discriminator, label, image, fake):
    """Hinge; real and fake go through in one batch."""
    pairs = torch.cat([torch.cat([label, x], 1) for x in (image, fake)])
    value = 0.0
    for maps in discriminator(pairs):
        real, made = maps[-1].chunk(2)
        value = value + F.relu(1 - real).mean() + F.relu(1 + made).mean()
    return value / 2
