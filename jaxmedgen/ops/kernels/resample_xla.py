"""Sampling at arbitrary coordinates in plain XLA: the form for every platform, and the reference.

On each axis a point sees one, two or four voxels (nearest, linear, cubic B-spline), its taps. What
lies beyond the border is expressed by the taps alone, so that a sample is a sum over the products
of taps whatever the mode.

A spline of data padded by zeros goes on outside of them: where the data vanish its coefficients
obey ``c[k-1] + 4 c[k] + c[k+1] = 0``, hence ``c[-k] = z^k c[0]`` with ``z = sqrt(3) - 2``. The mode
"constant" takes these coefficients without storing any padding.

Source: Unser, "Splines: a perfect fit for signal and image processing", 1999.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Mode = Literal["border", "constant", "reflect", "wrap"]
MODES: tuple[Mode, ...] = ("border", "constant", "reflect", "wrap")

POLE = 3**0.5 - 2
_REACH = 40  # voxels after which a spline of padded data has died out, |z|^40 = 1e-23

Tap = tuple[jax.Array, jax.Array, jax.Array]
"""Index of a voxel (always valid), its weight, and whether the unfolded index was inside."""


def sample_xla(
    image: Float[Array, " b *s c"], x: Float[Array, " b p n"], *, order: int, mode: Mode
) -> Float[Array, " b p c"]:
    """Values at the points `x` of an image (order 3: of spline coefficients); 0 beyond "constant".

    Differentiable any number of times. What the backward pass needs is computed again there: eight
    voxels a point would otherwise be stored.
    """
    one = functools.partial(_sample_one, order=order, mode=mode)
    batched = jax.vmap(one)
    return batched(image, x) if order == 0 else jax.checkpoint(batched)(image, x)


def _sample_one(image, x, *, order, mode):
    """One image ``[*s, c]`` at the points ``[p, n]``."""
    shape = image.shape[:-1]
    flat = image.reshape(-1, image.shape[-1])
    if order == 3:
        return _sample_rows(
            flat, [taps(x[:, d], n, order, mode) for d, n in enumerate(shape)], shape
        )
    out = 0.0
    for index, weight, inside in corners(x, shape, order, mode):
        value = flat.at[index].get(mode="promise_in_bounds")
        if mode == "constant":
            weight = jnp.where(inside, weight, 0.0)
        out = out + weight[:, None].astype(flat.dtype) * value
    return out


def _sample_rows(flat, each, shape):
    """Sum over all products of taps, a loop over rows: 64 gathers in a row compile slowly."""
    index = [jnp.stack([i for i, _, _ in axis]) for axis in each]  # [taps, p] an axis
    weight = [jnp.stack([w for _, w, _ in axis]).astype(flat.dtype) for axis in each]

    @jax.checkpoint
    def add(out, row):
        start, w = 0, 1.0
        for axis, size in enumerate(shape[1:]):
            start = (start + index[axis][row[axis]]) * size
            w = w * weight[axis][row[axis]]
        values = 0.0
        for i, last in zip(index[-1], weight[-1]):
            values = values + last[:, None] * flat.at[start + i].get(mode="promise_in_bounds")
        return out + w[:, None] * values, None

    rows = np.array(list(itertools.product(*(range(len(axis)) for axis in each[:-1]))))
    zeros = jnp.zeros((index[0].shape[1], flat.shape[-1]), flat.dtype)
    return jax.lax.scan(add, zeros, rows)[0]


def corners(
    x: Float[Array, " *o n"], shape: Sequence[int], order: int, mode: Mode
) -> Iterator[Tap]:
    """Flat index, weight and whether it lies inside, of every voxel that a point sees."""
    each = [taps(x[..., axis], size, order, mode) for axis, size in enumerate(shape)]
    for corner in itertools.product(*each):
        index, weight, inside = corner[0]
        for (i, w, within), size in zip(corner[1:], shape[1:]):
            index, weight, inside = index * size + i, weight * w, inside & within
        yield index, weight, inside


def taps(x: Float[Array, " *o"], size: int, order: int, mode: Mode) -> list[Tap]:
    """Voxels that a coordinate sees on one axis.

    At a voxel's centre, where linear interpolation has a kink, the derivative is that of the cell
    above; at the last voxel of "border" that of the cell below, as far as the image reaches.
    """
    x, first, last = _reduce(x, size, order, mode)
    below = jnp.floor(x + 0.5 if order == 0 else x)
    low = jnp.clip(below.astype(jnp.int32), first, last)
    t = x - low.astype(x.dtype)
    found = []
    for offset, weight in _weights(t, order):
        index = low + offset
        inside = (index >= 0) & (index < size)
        if mode == "constant" and order == 3:
            beyond = jnp.maximum(jnp.maximum(-index, index - (size - 1)), 0)
            decay = POLE ** np.arange(_REACH + 3)
            weight = weight * jnp.asarray(decay, x.dtype)[beyond]
        found.append((_fold(index, size, order, mode), weight, inside))
    return found


def _reduce(x, size, order, mode):
    """Coordinate within reach of the image, and the bounds of the index of the voxel below it."""
    top = size - 1
    if mode == "border":
        # At the border itself the derivative is the image's, not half of it as jnp.clip has it.
        x = jnp.where((x >= 0) & (x <= top), x, jax.lax.stop_gradient(jnp.clip(x, 0, top)))
        return x, 0, top if order == 0 else max(top - 1, 0)
    if mode == "constant":
        reach = _REACH if order == 3 else 2
        # A far-off coordinate must not overflow the integer it is turned into.
        return jnp.clip(x, -reach, top + reach), -reach, top + reach
    period = size if mode == "wrap" else max(2 * top, 1)
    x = x - period * jax.lax.stop_gradient(jnp.floor(x / period))
    return x, 0, period if order == 0 else period - 1


def _fold(index, size, order, mode):
    """Voxel of the image that stands for an index beyond its border."""
    top = size - 1
    if mode == "wrap":
        index = jnp.where(index < 0, index + size, jnp.where(index > top, index - size, index))
    elif mode == "reflect" or (mode == "border" and order == 3):
        index = jnp.abs(index)
        index = jnp.where(index > top, jnp.abs(2 * top - index), index)
    return jnp.clip(index, 0, top)


def _weights(t, order):
    """Offsets from the voxel below, and weights at the distance `t` above it."""
    if order == 0:
        return [(0, jnp.ones_like(t))]
    if order == 1:
        return [(0, 1.0 - t), (1, t)]
    u = 1.0 - t
    return [
        (-1, u**3 / 6),
        (0, (0.5 * t - 1) * t * t + 2 / 3),
        (1, (0.5 * u - 1) * u * u + 2 / 3),
        (2, t**3 / 6),
    ]


@functools.cache
def prefilter_matrix(size: int, mode: Mode) -> np.ndarray:
    """Matrix from the samples of an axis to its cubic B-spline coefficients.

    The samples go on mirrored about the outermost voxel centres ("border", "reflect"), as zeros
    ("constant") or periodically ("wrap").
    """
    matrix = (4 * np.eye(size) + np.eye(size, k=1) + np.eye(size, k=-1)) / 6
    if mode == "constant":
        matrix[0, 0] += POLE / 6
        matrix[-1, -1] += POLE / 6
    elif mode == "wrap":
        matrix[0, -1] += 1 / 6
        matrix[-1, 0] += 1 / 6
    elif size == 1:
        return np.ones((1, 1))
    else:
        matrix[0, 1] += 1 / 6
        matrix[-1, -2] += 1 / 6
    return np.linalg.inv(matrix)
