"""Filters of images: Gaussian, Sobel, median, and the maximum and minimum of a box.

All act on each channel alone, in 2D and 3D, and reflect borders about the voxel faces (scipy's
"reflect": the outermost voxel is repeated), so that results agree with `scipy.ndimage`.
"""

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real

from jaxmedgen.ops.resample import apply_matrices

_NETWORK = 27  # largest window whose median is a network of comparisons


def gaussian_filter(
    x: Float[Array, " b *s c"],
    sigma: Float[Array, " b"] | Float[Array, " b n"] | float | int | Sequence[float | int],
    *,
    spacing: Sequence[float | int] | None = None,
) -> Float[Array, " b *s c"]:
    """Gaussian smoothing with a width that may differ by sample and be traced.

    The kernel is a dense matrix an axis, so its width need not be known when compiling. Constants
    and the mean are kept. A sigma of 0 gives the input back.

    Args:
        x: images or fields.
        sigma: standard deviation: one number, one an axis (a tuple), one a sample, or one a sample
            and axis.
        spacing: voxel size in mm, if sigma is in mm; without it sigma is in voxels.

    Raises:
        ValueError: if sigma is negative, or a spacing not positive or not one an axis.
    """
    shape = x.shape[1:-1]
    traced = any(isinstance(width, jax.core.Tracer) for width in jax.tree.leaves(sigma))
    if not traced and not np.all(np.asarray(sigma) >= 0):
        raise ValueError(f"sigma {sigma} must not be negative: it is a width")
    if isinstance(sigma, Sequence):
        widths = jnp.broadcast_to(jnp.asarray(sigma, x.dtype), (x.shape[0], len(shape)))
    else:
        sigma = jnp.asarray(sigma, x.dtype)
        sigma = sigma[:, None] if sigma.ndim == 1 else sigma
        widths = jnp.broadcast_to(sigma, (x.shape[0], len(shape)))
    if spacing is not None:
        widths = widths / jnp.asarray(check_spacing(spacing, len(shape)), x.dtype)
    matrix = jax.vmap(_gaussian_matrix, in_axes=(None, 0))
    return apply_matrices(x, [matrix(size, widths[:, d]) for d, size in enumerate(shape)])


def sobel(
    x: Float[Array, " b *s c"], *, spacing: Sequence[float | int] | None = None
) -> Float[Array, " b *s c n"]:
    """Gradient by Sobel's operator: central difference along an axis, (1, 2, 1)/4 across it.

    Exact for linear images away from the border, unlike the unnormalised form of scipy, which is
    ``2 * 4^(n-1)`` times as large.

    Args:
        x: images.
        spacing: voxel size in mm, for derivatives by mm; without it they are by voxel.

    Returns:
        One derivative an axis, in array-axis order; its norm over the last axis marks edges.
    """
    axes = range(1, x.ndim - 1)
    steps = (1,) * len(axes) if spacing is None else check_spacing(spacing, len(axes))
    derivatives = []
    for along, step in zip(axes, steps):
        out = x
        for axis in axes:
            low, middle, high = _shifted(out, axis, 3)
            smooth = (low + 2 * middle + high) / 4
            out = (high - low) / (2 * step) if axis == along else smooth
        derivatives.append(out)
    return jnp.stack(derivatives, -1)


def median_filter(
    x: Float[Array, " b *s c"], size: int | Sequence[int] = 3
) -> Float[Array, " b *s c"]:
    """Median over a box around each voxel.

    Up to 27 voxels (3^3, 5^2) by a fixed network of minima and maxima, which vectorises and fuses;
    beyond by sorting, which needs the window's volume times the image's memory.

    Args:
        x: images.
        size: side of the box in voxels, odd, one number or one an axis.

    Raises:
        ValueError: if a side is even, not positive, or larger than the image.
    """
    shifted = [x]
    for axis, side in enumerate(_check_box(size, x), 1):
        shifted = list(itertools.chain(*(_shifted(part, axis, side) for part in shifted)))
    if len(shifted) > _NETWORK:
        return jnp.median(jnp.stack(shifted, -1), -1)
    return _median(shifted)


def grey_dilation(
    x: Real[Array, " b *s c"], size: int | Sequence[int] = 3
) -> Real[Array, " b *s c"]:
    """Maximum over a box around each voxel; of a mask of zeros and ones its binary dilation.

    Arguments as in `median_filter`.
    """
    low = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    window = (1, *_check_box(size, x), 1)
    start = jnp.asarray(low, x.dtype)
    return jax.lax.reduce_window(x, start, jax.lax.max, window, (1,) * x.ndim, "SAME")


def grey_erosion(
    x: Real[Array, " b *s c"], size: int | Sequence[int] = 3
) -> Real[Array, " b *s c"]:
    """Minimum over a box around each voxel; arguments as in `median_filter`."""
    high = jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).max
    window = (1, *_check_box(size, x), 1)
    start = jnp.asarray(high, x.dtype)
    return jax.lax.reduce_window(x, start, jax.lax.min, window, (1,) * x.ndim, "SAME")


def check_spacing(spacing: Sequence[float | int], axes: int) -> tuple[float, ...]:
    """The spacing as a tuple; ValueError unless it has one positive number an axis."""
    steps = tuple(float(step) for step in spacing)
    if len(steps) != axes or not all(0 < step < math.inf for step in steps):
        raise ValueError(f"spacing {steps} must be {axes} positive numbers in mm, one an axis")
    return steps


def _gaussian_matrix(size, sigma):
    """Row-normalised Gaussian weights ``[size, size]`` on an axis reflected at its faces."""
    grid = jnp.arange(size, dtype=sigma.dtype)
    i, j = grid[:, None], grid
    scale = 0.5 / jnp.maximum(sigma, 1e-4) ** 2
    weight = 0.0
    for period in (-2.0 * size, 0.0, 2.0 * size):
        weight += jnp.exp(-scale * (i - j + period) ** 2)
        weight += jnp.exp(-scale * (i + j + 1 + period) ** 2)
    return weight / weight.sum(1, keepdims=True)


def _check_box(size, x):
    axes = x.ndim - 2
    sides = tuple(size) if isinstance(size, Sequence) else (size,) * axes
    if len(sides) != axes or any(side < 1 or side % 2 == 0 for side in sides):
        raise ValueError(f"size {size} must be odd and positive, one number or one an axis")
    if any(side > extent for side, extent in zip(sides, x.shape[1:-1])):
        raise ValueError(f"size {size} is larger than the image {x.shape[1:-1]}")
    return sides


def _shifted(x, axis, side):
    """Copies of `x` shifted along an axis, from ``-(side // 2)`` to ``side // 2`` voxels."""
    pads = [(side // 2,) * 2 if d == axis else (0, 0) for d in range(x.ndim)]
    padded = jnp.pad(x, pads, mode="symmetric")
    return [jax.lax.slice_in_dim(padded, k, k + x.shape[axis], axis=axis) for k in range(side)]


def _median(values):
    """Median of an odd number of arrays by minima and maxima alone.

    Of ``n // 2 + 2`` values neither the smallest nor the largest is the median of all n: both are
    forgotten, the next value joins, and so on.
    """
    active, waiting = values[: len(values) // 2 + 2], values[len(values) // 2 + 2 :]
    while len(active) > 1:
        half = len(active) // 2
        for i in range(half):
            active[i], active[-1 - i] = _exchange(active[i], active[-1 - i])
        for i in range(1, len(active) - half):
            active[0], active[i] = _exchange(active[0], active[i])
        for i in range(half, len(active) - 1):
            active[i], active[-1] = _exchange(active[i], active[-1])
        active = active[1:-1] + waiting[:1]
        waiting = waiting[1:]
    return active[0]


def _exchange(a, b):
    return jnp.minimum(a, b), jnp.maximum(a, b)
