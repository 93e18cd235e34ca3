"""PyTorch layers with the weights of flax ones, by their path in a flat tree of parameters."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

Weights = Mapping[str, np.ndarray]


def placed(array: np.ndarray, order: tuple[int, ...]) -> nn.Parameter:
    """A parameter with its axes in another order."""
    return nn.Parameter(torch.tensor(np.ascontiguousarray(array.transpose(order))))


def convolution(weights: Weights, name: str, stride: int = 1) -> nn.Module:
    """2D or 3D convolution; of stride 2 without padding: `pad_same` comes before."""
    kernel = weights[f"{name}/kernel"]
    n, bias = kernel.ndim - 2, f"{name}/bias" in weights
    padding = kernel.shape[0] // 2 if stride == 1 else 0
    kind = {2: nn.Conv2d, 3: nn.Conv3d}[n]
    layer = kind(*kernel.shape[-2:], kernel.shape[0], stride, padding, bias=bias)
    layer.weight = placed(kernel, (n + 1, n, *range(n)))
    if bias:
        layer.bias = placed(weights[f"{name}/bias"], (0,))
    return layer


def doubling(weights: Weights, name: str) -> nn.Module:
    """3D transposed convolution of stride 2 to twice the size, an even number of taps."""
    kernel = weights[f"{name}/kernel"]
    taps = kernel.shape[0]
    layer = nn.ConvTranspose3d(*kernel.shape[-2:], taps, 2, (taps - 2) // 2)
    layer.weight = placed(kernel, (3, 4, 0, 1, 2))
    layer.bias = placed(weights[f"{name}/bias"], (0,))
    return layer


def dense(weights: Weights, name: str) -> nn.Module:
    """Linear layer."""
    kernel, bias = weights[f"{name}/kernel"], f"{name}/bias" in weights
    layer = nn.Linear(*kernel.shape, bias=bias)
    layer.weight = placed(kernel, (1, 0))
    if bias:
        layer.bias = placed(weights[f"{name}/bias"], (0,))
    return layer


def gaussian_head(weights: Weights, name: str) -> nn.ModuleDict:
    """Mean and log-variance (ours is bounded beyond 8, where no fresh network is)."""
    return nn.ModuleDict(
        {part: dense(weights, f"{name}/{part}") for part in ("mean", "log_variance")}
    )


def pad_same(x: Any) -> Any:
    """One voxel at the far ends, as SAME pads three taps of stride 2 on even axes."""
    return nn.functional.pad(x, (0, 1) * (x.ndim - 2))
