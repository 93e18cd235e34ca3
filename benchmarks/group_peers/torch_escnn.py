"""The octahedral U-Net of `benchmarks/group_unet_peer.py` in PyTorch, by escnn's `R3Conv`.

A process of its own, with an interpreter of its own if need be: escnn 1.0.11 needs lie_learn, whose
wheel is for numpy 1. Same layers, not the same weights: escnn's kernels are sums of steerable basis
functions. Source: Cesa, Lang & Weiler, "A program to build E(N)-equivariant steerable CNNs", 2022.

    python -m venv peer
    peer/bin/pip install 'numpy<2' torch lie_learn autograd pymanopt joblib
    peer/bin/pip install --no-deps escnn
"""

import argparse
import json
import sys
import time
import warnings

import torch
from torch import nn

CLASSES, DEPTH = 3, 2


def main() -> None:
    """Builds the step, then times it whenever it is asked to on standard input."""
    parser = argparse.ArgumentParser()
    for name in ("size", "batch", "filters", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    said, sys.stdout = sys.stdout, sys.stderr  # escnn's cache is talkative
    step, parameters = training_step(args)
    for _ in range(2):
        step()
    sys.stdout = said
    print(json.dumps({"parameters": parameters}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


def training_step(args):
    """Forward, Dice and cross-entropy, backward, Adam."""
    net = GroupUNet(args.filters)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)
    shape = (args.size,) * 3
    torch.manual_seed(0)
    image = torch.randn(args.batch, 1, *shape)
    label = torch.randint(0, CLASSES, (args.batch, *shape))
    hot = nn.functional.one_hot(label, CLASSES).movedim(-1, 1).float()

    def step() -> float:
        adam.zero_grad(set_to_none=True)
        logits = net(image)
        p = logits.softmax(1)
        axes = (0, 2, 3, 4)
        dice = (2 * (p * hot).sum(axes) + 1e-5) / (p.sum(axes) + hot.sum(axes) + 1e-5)
        value = nn.functional.cross_entropy(logits, label) + 1 - dice[1:].mean()
        value.backward()
        adam.step()
        return value.item()

    return step, sum(p.numel() for p in net.parameters())


class GroupUNet(nn.Module):
    """Two group convolutions a level with batch norm and rectifier, pooled over the group."""

    def __init__(self, filters: int):
        super().__init__()
        from escnn import gspaces
        from escnn import nn as enn

        self.enn, space = enn, gspaces.octaOnR3()
        self.order, self.filters = space.fibergroup.order(), filters

        def field(count):
            return enn.FieldType(space, count * [space.regular_repr])

        def block(channels, out, convs=2):
            layers = []
            for _ in range(convs):
                conv = enn.R3Conv(channels, out, 3, padding=1)
                layers += [conv, enn.IIDBatchNorm3d(out), enn.ReLU(out)]
                channels = out
            return enn.SequentialModule(*layers)

        widths = [filters * 2**i for i in range(DEPTH + 1)]
        self.input = enn.FieldType(space, [space.trivial_repr])
        sources = [self.input, *map(field, widths)]
        self.down = nn.ModuleList(block(a, field(w)) for a, w in zip(sources, widths))
        self.pool = nn.ModuleList(enn.PointwiseMaxPool3D(field(w), 2) for w in widths[:-1])
        self.up = nn.ModuleList(
            block(field(widths[i + 1]), field(widths[i]), 1) for i in range(DEPTH)
        )
        self.join = nn.ModuleList(block(field(2 * w), field(w)) for w in widths[:-1])
        self.head = nn.Conv3d(filters, CLASSES, 1)

    def forward(self, image):
        """Logits ``[b, classes, d, h, w]``."""
        x, skips = self.enn.GeometricTensor(image, self.input), []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else self.pool[i - 1](x))
            skips.append(x)
        for i in reversed(range(DEPTH)):
            large = nn.functional.interpolate(x.tensor, scale_factor=2, mode="nearest")
            x = self.up[i](self.enn.GeometricTensor(large, x.type))
            x = self.join[i](self.enn.tensor_directsum([x, skips[i]]))
        fields = x.tensor.reshape(len(image), self.filters, self.order, *image.shape[2:])
        return self.head(fields.mean(2))


if __name__ == "__main__":
    main()
