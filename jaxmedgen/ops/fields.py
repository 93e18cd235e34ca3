"""Displacement and velocity fields: warping, composition, the exponential map, random fields.

A field ``u`` of shape ``[b, *space, n]`` stands for the map ``p -> p + u(p)``; everything is in
voxels, components in array-axis order. Amplitudes in mm are converted where a spacing is given.

Sources: Arsigny et al., "A log-Euclidean framework for statistics on diffeomorphisms", 2006
(scaling and squaring); Ashburner, "A fast diffeomorphic image registration algorithm", 2007.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxmedgen.ops.resample import Mode, resample
from jaxmedgen.ops.resize import apply_matrices, resize


def identity_grid(shape: Sequence[int]) -> Float[Array, " *s n"]:
    """Voxel coordinates of every voxel, components in array-axis order."""
    axes = [jnp.arange(size, dtype=jnp.float32) for size in shape]
    return jnp.stack(jnp.meshgrid(*axes, indexing="ij"), -1)


def warp(
    image: Float[Array, " b *s c"],
    displacement: Float[Array, " b *s n"],
    *,
    order: int = 1,
    mode: Mode = "border",
    fill: Float[Array, " b c"] | float | int = 0.0,
) -> Float[Array, " b *s c"]:
    """``x'(p) = x(p + u(p))``; arguments as in `resample`."""
    coordinates = identity_grid(displacement.shape[1:-1]) + displacement
    return resample(image, coordinates, order=order, mode=mode, fill=fill)


def compose(u: Float[Array, " b *s n"], v: Float[Array, " b *s n"]) -> Float[Array, " b *s n"]:
    """Displacement of ``(id + u) o (id + v)``, that is ``v(p) + u(p + v(p))``."""
    return v + warp(u, v)


def exp_velocity(velocity: Float[Array, " b *s n"], *, steps: int = 7) -> Float[Array, " b *s n"]:
    """Displacement of the flow ``Exp(v)`` of a stationary velocity at time 1.

    Scaling and squaring: ``u_0 = v / 2^steps``, then `steps` times ``u <- u o (id + u) + u``. The
    start is accurate to ``O(|v|^2 / 4^steps)``; each squaring adds the error of one linear
    interpolation. Outside of the volume the velocity continues its border value.

    Args:
        velocity: stationary velocity in voxels per unit of time.
        steps: number of squarings; 7 is safe up to about 30 voxels.
    """

    def square(u, _):
        return compose(u, u), None

    return jax.lax.scan(square, velocity / 2**steps, None, length=steps)[0]


def jacobian_determinant(displacement: Float[Array, " b *s n"]) -> Float[Array, " b *s"]:
    """``det(I + Du)`` by central differences (one-sided at the border); <= 0 where space folds."""
    axes = displacement.shape[-1]
    rows = []  # rows[i][j] = d T_i / d p_j
    for i in range(axes):
        component = displacement[..., i]
        gradient = [jnp.gradient(component, axis=j + 1) for j in range(axes)]
        rows.append([g + (1.0 if i == j else 0.0) for j, g in enumerate(gradient)])
    if axes == 2:
        (a, b), (c, d) = rows
        return a * d - b * c
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


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
    widths = tuple(sigma / s for s in spacing)
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
    for size, width in zip(shape, spacing):
        factor = max(1, int(sigma / width / 4))
        coarse.append(max(math.ceil(size / factor), min(size, 4)))
        widths.append(size * width / coarse[-1])
    velocity = random_velocity(keys, coarse, widths, sigma=sigma, rms=rms)
    displacement = exp_velocity(velocity, steps=steps)
    scale = [size / few for size, few in zip(shape, coarse)]
    return resize(displacement, shape, order=3) * jnp.asarray(scale, displacement.dtype)


def _noise_rows(size: int, sigma: float) -> np.ndarray:
    """Weights ``[size, controls]`` from control noise to a field of variance 1."""
    spacing = max(sigma, 1.0)
    reach = math.ceil(4 * sigma / spacing)
    count = math.ceil((size - 1) / spacing) + 1 + 2 * reach
    centre = (np.arange(count) - (count - 1) / 2) * spacing + (size - 1) / 2
    weight = np.exp(-0.5 * ((np.arange(size)[:, None] - centre) / sigma) ** 2)
    return (weight / np.sqrt((weight**2).sum(1, keepdims=True))).astype(np.float32)
