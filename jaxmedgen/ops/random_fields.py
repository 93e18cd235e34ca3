"""Random fields: smooth Gaussian fields, velocities, elastic and diffeomorphic deformations.

Amplitudes and widths in mm are converted where a voxel size is given. Every sample draws from its
own key.

Sources: Simard et al., "Best practices for convolutional neural networks applied to visual document
analysis", 2003 (elastic deformation); Arsigny et al., 2006 (`exp_velocity`).
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxmedgen.ops.affine import check_spacing
from jaxmedgen.ops.fields import exp_velocity
from jaxmedgen.ops.resize import apply_matrices, resize


def random_smooth_field(
    keys: Key[Array, " b"],
    shape: Sequence[int],
    sigma: float | int | Sequence[float | int],
    *,
    channels: int = 1,
) -> Float[Array, " b *s channels"]:
    """Stationary Gaussian random fields of mean 0 and variance 1.

    White noise smoothed by a Gaussian of width `sigma`, that is covariance
    ``exp(-|p - q|^2 / 4 sigma^2)``, also at the borders: the noise reaches beyond them. It is drawn
    on a control grid of spacing at most `sigma`, where the smoothed field is stationary to 1e-4, so
    the cost of the random numbers falls with ``sigma^n``.

    Args:
        keys: one key a sample.
        shape: spatial size.
        sigma: width in voxels, one number or one an axis.
        channels: independent fields a sample.

    Raises:
        ValueError: if sigma is not positive.
    """
    widths = tuple(sigma) if isinstance(sigma, Sequence) else (sigma,) * len(shape)
    if min(widths) <= 0:
        raise ValueError(f"sigma {sigma} must be positive: a smooth field needs a width")
    rows = [_noise_rows(size, float(width)) for size, width in zip(shape, widths)]
    control = (*(r.shape[1] for r in rows), channels)
    noise = jax.vmap(lambda key: jax.random.normal(key, control))(keys)
    return apply_matrices(noise, rows)


def random_velocity(
    keys: Key[Array, " b"],
    shape: Sequence[int],
    spacing: Sequence[float | int],
    *,
    sigma: float | int,
    rms: Float[Array, " b"] | float | int,
) -> Float[Array, " b *s n"]:
    """Random stationary velocity, smooth on the scale `sigma` and of a given strength.

    Args:
        keys: one key a sample.
        shape: spatial size.
        spacing: voxel size in mm.
        sigma: smoothness in mm.
        rms: root mean square of ``|v|`` over the volume in mm, one number or one a sample.

    Returns:
        Velocity in voxels for `exp_velocity`.
    """
    widths = tuple(sigma / s for s in check_spacing(spacing, len(shape)))
    v = random_smooth_field(keys, shape, widths, channels=len(shape))  # mm
    space = tuple(range(1, v.ndim - 1))
    size = jnp.sqrt(jnp.mean(jnp.sum(v**2, -1), space))  # [b]
    factor = (rms / jnp.maximum(size, 1e-12)).reshape(-1, *(1,) * (v.ndim - 1))
    return v * factor / jnp.asarray(spacing, v.dtype)


def random_diffeomorphism(
    keys: Key[Array, " b"],
    shape: Sequence[int],
    spacing: Sequence[float | int],
    *,
    sigma: float | int,
    rms: Float[Array, " b"] | float | int,
    steps: int = 7,
) -> Float[Array, " b *s n"]:
    """Displacement in voxels of the flow of a `random_velocity`.

    The flow is integrated on a coarser grid over the same field of view, with at least four of its
    voxels to a `sigma`, and interpolated by cubics: 0.02 voxels (RMS) from the full grid's result
    for an eighth of the work or less. Arguments as in `random_velocity` and `exp_velocity`.
    """
    coarse, widths = [], []
    for size, width in zip(shape, check_spacing(spacing, len(shape))):
        factor = max(1, int(sigma / width / 4))
        coarse.append(max(math.ceil(size / factor), min(size, 4)))
        widths.append(size * width / coarse[-1])
    velocity = random_velocity(keys, coarse, widths, sigma=sigma, rms=rms)
    displacement = exp_velocity(velocity, steps=steps)
    scale = [size / few for size, few in zip(shape, coarse)]
    return resize(displacement, shape, order=3) * jnp.asarray(scale, displacement.dtype)


def random_elastic_displacement(
    keys: Key[Array, " b"],
    shape: Sequence[int],
    *,
    alpha: Float[Array, " b"] | float | int,
    sigma: Float[Array, " b"] | float | int,
) -> Float[Array, " b *s n"]:
    """Elastic deformation of Simard et al., ``u = alpha G_sigma * U(-1, 1)``, all in voxels.

    G is the normalised Gaussian, cut at 4 sigma, with zeros beyond the volume. Both settings are
    tied: the standard deviation is about ``0.58 alpha (2 sqrt(pi) sigma)^(-n/2)``, 2.9 voxels for
    nnU-Net's strongest 900 and 9 in 3D. The map may fold.

    Args:
        keys: one key a sample.
        shape: spatial size.
        alpha: strength, one number or one a sample.
        sigma: smoothness in voxels, one number or one a sample; may be traced.
    """
    axes = len(shape)
    draw = functools.partial(jax.random.uniform, shape=(*shape, axes), minval=-1.0, maxval=1.0)
    alpha, sigma = (
        jnp.broadcast_to(jnp.asarray(x, jnp.float32), keys.shape) for x in (alpha, sigma)
    )
    rows = [jax.vmap(functools.partial(_truncated_gaussian, size))(sigma) for size in shape]
    noise = jax.vmap(draw)(keys) * alpha.reshape(-1, *(1,) * (axes + 1))
    return apply_matrices(noise, rows)


def _truncated_gaussian(size, sigma):
    """Gaussian weights ``[size, size]`` cut at 4 sigma, zero boundary."""

    def kernel(distance):
        return jnp.where(jnp.abs(distance) <= 4 * sigma, jnp.exp(-0.5 * (distance / sigma) ** 2), 0)

    grid = jnp.arange(size, dtype=sigma.dtype)
    # The whole kernel is normalised, also where only part of it lies in the volume.
    total = kernel(jnp.arange(-4 * size, 4 * size + 1, dtype=sigma.dtype)).sum()
    return kernel(grid[:, None] - grid) / total


def _noise_rows(size: int, sigma: float) -> np.ndarray:
    """Weights ``[size, controls]`` from control noise to a field of variance 1."""
    spacing = max(sigma, 1.0)
    reach = math.ceil(4 * sigma / spacing)
    count = math.ceil((size - 1) / spacing) + 1 + 2 * reach
    centre = (np.arange(count) - (count - 1) / 2) * spacing + (size - 1) / 2
    weight = np.exp(-0.5 * ((np.arange(size)[:, None] - centre) / sigma) ** 2)
    return (weight / np.sqrt((weight**2).sum(1, keepdims=True))).astype(np.float32)
