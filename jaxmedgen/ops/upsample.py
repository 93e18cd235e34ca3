"""Upsampling and pooling by whole factors, separable and without gathers."""

from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Shaped

Method = Literal["nearest", "linear"]


def upsample(
    x: Shaped[Array, "b *s c"], factor: int | Sequence[int], method: Method = "nearest"
) -> Shaped[Array, "b *s2 c"]:
    """Enlarges every axis of space by a whole factor.

    ``linear`` places voxel centres as ``align_corners=False`` does: output voxel ``i`` lies at
    ``(i + 1/2) / factor - 1/2``, edge voxels extended outward.

    Args:
        x: images; floating point for ``linear``.
        factor: one for all axes or one an axis.
        method: ``nearest`` or ``linear``.

    Raises:
        ValueError: a factor < 1, or their number does not fit the axes.
    """
    for axis, f in enumerate(_factors("upsample", x, factor), start=1):
        if f == 1:
            continue
        parts = [x] * f if method == "nearest" else _linear_phases(x, f, axis)
        x = jnp.stack(parts, axis + 1)
        x = x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])
    return x


def average_pool(
    x: Shaped[Array, "b *s c"], factor: int | Sequence[int]
) -> Shaped[Array, "b *s2 c"]:
    """Mean over blocks of `factor` voxels; the axes must be divisible by it.

    Raises:
        ValueError: an axis is not divisible by its factor.
    """
    return _blocks("average_pool", x, factor).mean(tuple(range(2, 2 * (x.ndim - 2) + 1, 2)))


def average_pool3(x: Shaped[Array, "b *s c"]) -> Shaped[Array, "b *s2 c"]:
    """Mean over windows of three voxels with stride two, voxels outside the image not counted.

    Axes shrink to ``ceil(s / 2)``; windows are centred on voxels 0, 2, 4, ... (kernel 3, stride 2,
    padding 1 that does not count: the pyramid of multi-scale discriminators, Wang et al., CVPR
    2018).
    """
    for axis in range(1, x.ndim - 1):
        size = x.shape[axis]
        half = -(-size // 2)
        count = np.full(half, 3.0, np.float32)
        count[0] -= 1
        count[-1] -= size % 2
        pads = [(0, 0)] * x.ndim
        pads[axis] = (1, 1)
        wide = jnp.pad(x, pads)
        taps = (lax.slice_in_dim(wide, i, i + 2 * half - 1, 2, axis) for i in range(3))
        shape = [1] * x.ndim
        shape[axis] = half
        x = (sum(taps) / jnp.asarray(count.reshape(shape))).astype(x.dtype)
    return x


def max_pool(x: Shaped[Array, "b *s c"], factor: int | Sequence[int]) -> Shaped[Array, "b *s2 c"]:
    """Maximum over blocks of `factor` voxels; the axes must be divisible by it.

    Raises:
        ValueError: an axis is not divisible by its factor.
    """
    return _blocks("max_pool", x, factor).max(tuple(range(2, 2 * (x.ndim - 2) + 1, 2)))


def _linear_phases(x, f, axis):
    """The f output voxels within each input voxel, from it and its two neighbours."""
    size = x.shape[axis]
    first = lax.slice_in_dim(x, 0, 1, axis=axis)
    last = lax.slice_in_dim(x, size - 1, size, axis=axis)
    before = jnp.concatenate([first, lax.slice_in_dim(x, 0, size - 1, axis=axis)], axis)
    after = jnp.concatenate([lax.slice_in_dim(x, 1, size, axis=axis), last], axis)
    phases = []
    for i in range(f):
        offset = (i + 0.5) / f - 0.5
        neighbour, weight = (before, -offset) if offset < 0 else (after, offset)
        phases.append((x + weight * (neighbour - x)).astype(x.dtype))
    return phases


def _factors(name, x, factor):
    n = x.ndim - 2
    factors = (factor,) * n if isinstance(factor, int) else tuple(factor)
    if len(factors) != n or any(f < 1 for f in factors):
        raise ValueError(f"{name}: factor={factor} must be one int >= 1, or {n} of them")
    return factors


def _blocks(name, x, factor):
    """[b, s1/f1, f1, s2/f2, f2, ..., c]."""
    factors = _factors(name, x, factor)
    size = x.shape[1:-1]
    if any(s % f for s, f in zip(size, factors)):
        raise ValueError(f"{name}: image {size} is not divisible by {factors}; pad or crop it")
    split = [v for s, f in zip(size, factors) for v in (s // f, f)]
    return x.reshape(x.shape[0], *split, x.shape[-1])
