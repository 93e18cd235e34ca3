"""Filters of images: separable Gaussian."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.ops.resize import apply_matrices


def gaussian_filter(
    x: Float[Array, " b *s c"],
    sigma: Float[Array, " b"] | Float[Array, " b n"] | float | int | Sequence[float | int],
) -> Float[Array, " b *s c"]:
    """Gaussian smoothing with a width that may differ by sample and be traced.

    The kernel is a dense matrix an axis, so its width need not be known when compiling. Borders are
    reflected about the voxel faces (scipy's "reflect"), which keeps constants and the mean. A
    sigma of 0 gives the input back.

    Args:
        x: images or fields.
        sigma: standard deviation in voxels: one number, one an axis (a tuple), one a sample, or one
            a sample and axis.
    """
    shape = x.shape[1:-1]
    if isinstance(sigma, Sequence):
        widths = jnp.broadcast_to(jnp.asarray(sigma, x.dtype), (x.shape[0], len(shape)))
    else:
        sigma = jnp.asarray(sigma, x.dtype)
        sigma = sigma[:, None] if sigma.ndim == 1 else sigma
        widths = jnp.broadcast_to(sigma, (x.shape[0], len(shape)))
    matrix = jax.vmap(_gaussian_matrix, in_axes=(None, 0))
    return apply_matrices(x, [matrix(size, widths[:, d]) for d, size in enumerate(shape)])


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
