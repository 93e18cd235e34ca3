"""GenSeg's small networks in PyTorch, with the weights of the other side, by its names.

Adaptive instance norms in segmentation mode, compressed long skips, hinge losses: the `proposed`
arm of `configs/genseg.py` on digits.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

Weights = Mapping[str, np.ndarray]


class Conv(nn.Module):
    """Convolution with mirrored borders (zeros if told so), of spectral norm one."""

    def __init__(
        self, weights: Weights, name: str, stride: int = 1, spectral: bool = True, mode="reflect"
    ):
        super().__init__()
        kernel = weights[f"{name}/conv/kernel"].transpose(3, 2, 0, 1)
        out, inputs, taps, _ = kernel.shape
        self.pad = (taps - 1) // 2
        self.mode = mode
        self.layer = nn.Conv2d(inputs, out, taps, stride)
        self.layer.weight.data = torch.tensor(np.ascontiguousarray(kernel))
        self.layer.bias.data = torch.tensor(weights[f"{name}/conv/bias"])
        if spectral:
            spectral_norm(self.layer, n_power_iterations=50)
            self.layer.parametrizations.weight[0].n_power_iterations = 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images in, images out."""
        if self.pad:
            x = functional.pad(x, (self.pad,) * 4, mode=self.mode)
        return self.layer(x)


class LayerNorm(nn.Module):
    """Over space and channels, unbiased deviation plus 1e-5."""

    def __init__(self, scale: np.ndarray, bias: np.ndarray):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale).reshape(1, -1, 1, 1))
        self.bias = nn.Parameter(torch.tensor(bias).reshape(1, -1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised images."""
        flat = x.flatten(1)
        mean, deviation = (v.reshape(-1, 1, 1, 1) for v in (flat.mean(1), flat.std(1)))
        return (x - mean) / (deviation + 1e-5) * self.scale + self.bias


class Encoder(nn.Module):
    """Pre-activation blocks that halve the resolution."""

    def __init__(self, weights: Weights, name: str, levels: int):
        super().__init__()
        self.first = Conv(weights, f"{name}/first")
        self.blocks = nn.ModuleList(
            Conv(weights, f"{name}/block{i}", stride=2) for i in range(levels)
        )
        self.shortcuts = nn.ModuleList(Conv(weights, f"{name}/shortcut{i}") for i in range(levels))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Code and long skips."""
        x, skips = self.first(x), []
        for block, shortcut in zip(self.blocks, self.shortcuts):
            skips.append(x)
            y = block(functional.relu(functional.instance_norm(x)))
            x = y + shortcut(x[:, :, ::2, ::2])
        return functional.relu(functional.instance_norm(x)), skips


class Decoder(nn.Module):
    """With short skips: the common decoder. Without: the residual one, with two modes."""

    def __init__(self, weights: Weights, name: str, levels: int, residual: bool):
        super().__init__()
        self.blocks = nn.ModuleList(Conv(weights, f"{name}/block{i}") for i in range(levels))
        self.skips = nn.ModuleList(Conv(weights, f"{name}/skip{i}") for i in range(levels))
        self.shortcuts = None
        if not residual:
            self.shortcuts = nn.ModuleList(
                Conv(weights, f"{name}/shortcut{i}") for i in range(1, levels)
            )
        norms = [weights[f"{name}/norm{i}/{part}0"] for i in range(levels + 1) for part in PARTS]
        self.norms = nn.ModuleList(
            LayerNorm(scale, bias) for scale, bias in zip(norms[::2], norms[1::2])
        )
        self.last, self.image = (Conv(weights, f"{name}/{n}") for n in ("last", "image"))
        self.perceptron = None
        if residual:
            self.ends = nn.Sequential(
                Conv(weights, f"{name}/segmentation", spectral=False),
                Conv(weights, f"{name}/classifier", spectral=False),
            )
            self.perceptron = perceptron(weights, f"{name}/scale_bias")

    def forward(
        self, code: torch.Tensor, skips: Sequence[torch.Tensor], segment: bool = False
    ) -> torch.Tensor:
        """Images in [-1, 1], or logits."""
        norms = iter(self._adaptive(code) if segment else self.norms)
        x = code
        for n, (block, squeeze, skip) in enumerate(zip(self.blocks, self.skips, skips[::-1])):
            y = x if n == 0 else functional.relu(next(norms)(x))
            y = block(functional.interpolate(y, scale_factor=2))
            if n and self.shortcuts is not None:
                y = y + functional.interpolate(self.shortcuts[n - 1](x), scale_factor=2)
            x = torch.cat([y, squeeze(functional.instance_norm(skip))], 1)
        x = self.last(functional.relu(next(norms)(x)))
        x = functional.relu(next(norms)(x))
        return self.ends(x) if segment else torch.tanh(self.image(x))

    def _adaptive(self, code):
        # Channels are in the order of the other side's code, channels last.
        row = self.perceptron(code.movedim(1, -1).flatten(1))
        start = 0
        for norm in self.norms:
            c = norm.scale.shape[1]
            scale, bias = row[:, start : start + c], row[:, start + c : start + 2 * c]
            start += 2 * c

            def apply(x, scale=scale, bias=bias):
                return (
                    functional.instance_norm(x) * (1 + scale)[..., None, None]
                    + bias[..., None, None]
                )

            yield apply


PARTS = ("scale", "bias")


def perceptron(weights: Weights, name: str) -> nn.Sequential:
    """Linear layers of a name with rectifiers between them."""
    layers: list[nn.Module] = []
    for k in range(4):
        kernel = weights[f"{name}/Dense_{k}/kernel"]
        layer = nn.Linear(*kernel.shape)
        layer.weight.data = torch.tensor(np.ascontiguousarray(kernel.T))
        layer.bias.data = torch.tensor(weights[f"{name}/Dense_{k}/bias"])
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Discriminator(nn.Module):
    """Patch discriminators at several scales."""

    def __init__(self, weights: Weights, name: str, scales: int, levels: int):
        super().__init__()
        self.scales = nn.ModuleList()
        for s in range(scales):
            layers: list[nn.Module] = []
            for k in range(levels):
                place = f"{name}/scale{s}/SpectralConv_{k}"
                layers.append(Conv(weights, place, stride=2, mode="constant"))
                if k:
                    norm = f"{name}/scale{s}/ImageLayerNorm_{k - 1}"
                    layers.append(LayerNorm(*(weights[f"{norm}/{part}"] for part in PARTS)))
                layers.append(nn.LeakyReLU(0.2))
            layers.append(Conv(weights, f"{name}/scale{s}/SpectralConv_{levels}"))
            self.scales.append(nn.Sequential(*layers))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Logits by scale."""
        found = []
        for net in self.scales:
            found.append(net(x))
            x = functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
        return found


class GenSeg:
    """Networks, optimisers and the training step."""

    def __init__(self, weights: Weights, unique: int, levels: int, scales: int, depth: int):
        self.unique = unique
        self.encoder = Encoder(weights, "generator/encoder", levels)
        self.common = Decoder(weights, "generator/common", levels, residual=False)
        self.residual = Decoder(weights, "generator/residual", levels, residual=True)
        self.presence, self.absence = (
            Discriminator(weights, f"discriminator/{n}", scales, depth)
            for n in ("presence", "absence")
        )
        made = nn.ModuleList([self.encoder, self.common, self.residual])
        judges = nn.ModuleList([self.presence, self.absence])
        settings = {"lr": 1e-3, "betas": (0.5, 0.999), "weight_decay": 1e-4, "amsgrad": True}
        self.generator_optimizer = torch.optim.Adam(made.parameters(), **settings)
        self.judge_optimizer = torch.optim.Adam(judges.parameters(), **settings)

    def translate(self, present: torch.Tensor, absent: torch.Tensor, prior: torch.Tensor):
        """All translations in one pass of each network."""
        b = len(present)
        code, skips = self.encoder(torch.cat([present, absent]))
        common, unique = code[:, : -self.unique], code[:, -self.unique :]
        removed = self.common(common, skips)
        added = self.residual(torch.cat([common, torch.cat([unique[:b], prior])], 1), skips)
        total = removed + added
        return code, [s[:b] for s in skips], removed[:b], removed[b:], total[:b], total[b:]

    def judge_loss(self, present, absent, x_pa, x_ap):
        """Hinge loss of both discriminators, times 3."""
        value = 0.0
        pairs = ((self.presence, present, x_ap), (self.absence, absent, x_pa))
        for net, real, fake in pairs:
            for logits in net(torch.cat([real, fake.detach()])):
                r, f = logits.chunk(2)
                part = functional.relu(1 - r).mean() + functional.relu(1 + f).mean()
                value = value + part / len(net.scales)
        return 3 * value

    def generator_loss(self, made, present, absent, prior, mask, known):
        """All terms of the generator with their weights."""
        code, skips_p, x_pa, x_aa, x_pp, x_ap = made
        b, n = len(present), self.unique
        again, skips = self.encoder(torch.cat([x_pa, x_aa, x_pp, x_ap]))
        s_pa, s_aa, s_pp, s_ap = again.split(b)
        code_p, code_a = code[:b], code[b:]
        l1 = functional.l1_loss
        image = l1(x_pp, present) + l1(x_aa, absent)
        latent = l1(s_pa[:, :-n], code_p[:, :-n]) + l1(s_aa[:, :-n], code_a[:, :-n])
        latent = latent + l1(s_pp, code_p) + l1(s_ap, torch.cat([code_a[:, :-n], prior], 1))
        cycle = l1(self.common(s_ap[:, :-n], [s[3 * b :] for s in skips]), absent)
        fool = 0.0
        for net, fake in ((self.presence, x_ap), (self.absence, x_pa)):
            fool = fool - sum(logits.mean() for logits in net(fake)) / len(net.scales)
        p = torch.sigmoid(self.residual(code_p, skips_p, segment=True))[:, 0]
        w = known.reshape(-1, 1, 1)
        dice = -(2 * (p * mask * w).sum() + 1) / ((p * w).sum() + (mask * w).sum() + 1)
        return 50 * image + latent + 50 * cycle + 3 * fool + 0.01 * dice

    def step(self, present, absent, prior, mask, known) -> tuple[float, float]:
        """Discriminators, then generator; the translations are made once."""
        made = self.translate(present, absent, prior)
        judged = self.judge_loss(present, absent, made[2], made[5])
        self.judge_optimizer.zero_grad(set_to_none=True)
        judged.backward()
        self.judge_optimizer.step()
        value = self.generator_loss(made, present, absent, prior, mask, known)
        self.generator_optimizer.zero_grad(set_to_none=True)
        value.backward()
        self.generator_optimizer.step()
        return judged.item(), value.item()
