"""Operators of an invariant metric on a periodic grid: L, K = 1/L and their square roots.

A metric (`invariant_metrics.py`) is the spectrum of its operator; fields are filtered in the
Fourier domain, so the domain is periodic. Three transforms give the same result: the real FFT, and
for even spectra one dense real Fourier matrix an axis, which turns the filter into matrix products
(TPU, and CPU for axes of up to `MATRIX_SIZE` voxels), or a C++ kernel (one CPU device, float32).

``v`` is a velocity, ``m = L v`` the momentum, ``v = K m``. With a spacing ``h`` (mm) the metric is
that of the velocity in mm, ``<L h v, h v>``: in voxels ``m = h L (h v)`` and ``v = K(m / h) / h``.

Source: Beg et al., "Computing large deformation metric mappings", 2005.
"""

import functools
import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxmedgen.ops.invariant_metrics import GaussianMetric, Metric, SobolevMetric
from jaxmedgen.ops.kernels.platform import platform
from jaxmedgen.ops.kernels.shooting_native import spectral_filter, use_native

__all__ = [
    "GaussianMetric",
    "Metric",
    "SobolevMetric",
    "energy",
    "filter_planes",
    "flat",
    "fourier_angles",
    "fourier_matrix",
    "planes",
    "sample_velocity",
    "sharp",
    "sqrt_flat",
    "sqrt_sharp",
]

Transform = Literal["auto", "fft", "matrix", "native"]

# Measured on two CPU cores: dense products win up to here, FFTs beyond.
MATRIX_SIZE = 96


def flat(
    velocity: Float[Array, " b *s n"], metric: Metric, *, transform: Transform | str = "auto"
) -> Float[Array, " b *s n"]:
    """Momentum ``m = L v``.

    Args:
        velocity: 2D or 3D fields in voxels.
        metric: `SobolevMetric`; a `GaussianMetric` has no L.
        transform: ``fft`` works everywhere; ``matrix`` and ``native`` (C++ on CPU, float32) need a
            metric that is not coupled; ``auto`` takes the fastest.

    Raises:
        ValueError: for an unknown or unsuitable transform, or a field that does not fit.
    """
    return _last(filter_planes(planes(velocity), metric, -1, transform))


def sharp(
    momentum: Float[Array, " b *s n"], metric: Metric, *, transform: Transform | str = "auto"
) -> Float[Array, " b *s n"]:
    """Velocity ``v = K m``; arguments as in `flat`."""
    return _last(filter_planes(planes(momentum), metric, 1, transform))


def sqrt_sharp(
    noise: Float[Array, " b *s n"], metric: Metric, *, transform: Transform | str = "auto"
) -> Float[Array, " b *s n"]:
    """``K^(1/2) x``: white noise becomes a velocity of covariance K; arguments as in `flat`."""
    return _last(filter_planes(planes(noise), metric, 0.5, transform))


def sqrt_flat(
    noise: Float[Array, " b *s n"], metric: Metric, *, transform: Transform | str = "auto"
) -> Float[Array, " b *s n"]:
    """``L^(1/2) x``: white noise becomes a momentum of covariance L; arguments as in `flat`."""
    return _last(filter_planes(planes(noise), metric, -0.5, transform))


def energy(velocity: Float[Array, " b *s n"], metric: Metric) -> Float[Array, " b"]:
    """Kinetic energy ``<L v, v> / 2``, summed over voxels, of each sample."""
    momentum = flat(velocity, metric)
    return 0.5 * jnp.sum(momentum * velocity, axis=tuple(range(1, velocity.ndim)))


def sample_velocity(
    keys: Key[Array, " b"],
    shape: Sequence[int],
    metric: Metric,
    *,
    rms: Float[Array, " b"] | float | int | None = None,
    mean_energy: Float[Array, " b"] | float | int | None = None,
    spacing: Sequence[float | int] | None = None,
) -> Float[Array, " b *s n"]:
    """Initial velocities ``K^(1/2) xi`` of random geodesics, scaled to a strength or an energy.

    Args:
        keys: one key a sample.
        shape: spatial size.
        metric: gives the smoothness.
        rms: root mean square of ``|v|`` over the volume, one number or one a sample. Energy is kept
            along a geodesic, but paths bend: the displacement is smaller (`augment.deformation`).
        mean_energy: in place of `rms`, `energy` over the number of voxels: in mm^2 if the metric
            has a spacing, otherwise in voxels^2.
        spacing: voxel size in mm if `rms` is in mm; None if it is in voxels.

    Raises:
        ValueError: both or neither of `rms` and `mean_energy`.
    """
    if (rms is None) == (mean_energy is None):
        raise ValueError(f"rms={rms} and mean_energy={mean_energy}: give one of them")
    n = len(shape)
    noise = jax.vmap(lambda key: jax.random.normal(key, (*shape, n)))(keys)
    velocity = sqrt_sharp(noise, metric)
    if mean_energy is not None:
        wanted = jnp.asarray(mean_energy, velocity.dtype) * math.prod(shape)
        factor = jnp.sqrt(wanted / energy(velocity, metric))
        return velocity * factor.reshape(-1, *(1,) * (n + 1))
    size = jnp.asarray(spacing if spacing is not None else (1.0,) * n, velocity.dtype)
    mean = jnp.mean(jnp.sum((velocity * size) ** 2, -1), axis=tuple(range(1, n + 1)))
    factor = jnp.asarray(rms, velocity.dtype) / jnp.sqrt(mean)
    return velocity * factor.reshape(-1, *(1,) * (n + 1))


def planes(field: Float[Array, " b *s n"]) -> Float[Array, " b n *s"]:
    """Components first: contiguous planes are what stencils and transforms vectorise over."""
    return jnp.moveaxis(field, -1, 1)


def _last(x):
    return jnp.moveaxis(x, 1, -1)


def filter_planes(
    x: Float[Array, " b n *s"],
    metric: Metric,
    power: float | int,
    transform: Transform | str = "auto",
) -> Float[Array, " b n *s"]:
    """``K^power x`` of fields with components first; `power` is one of 1, -1, 1/2, -1/2."""
    shape = x.shape[2:]
    if x.shape[1] != len(shape):
        raise ValueError(f"field with {x.shape[1]} components on {len(shape)} axes: must agree")
    if metric.spacing is not None and len(metric.spacing) != len(shape):
        raise ValueError(f"spacing {metric.spacing} for {len(shape)} axes: give one number each")
    if transform not in ("auto", "fft", "matrix", "native"):
        raise ValueError(f"transform {transform!r}: use 'auto', 'fft', 'matrix' or 'native'")
    if transform in ("matrix", "native") and metric.coupled:
        raise ValueError(f"transform {transform!r} needs a metric with beta = 0: use 'fft'")
    before = after = None
    if metric.spacing is not None:
        h = jnp.asarray(metric.spacing, x.dtype).reshape(-1, *(1,) * len(shape))
        whole = abs(power) == 1
        before, after = (h**-power,) * 2 if whole else (None, h ** (-2 * power))
    x = x if before is None else x * before
    if not metric.coupled and use_native(transform, x.dtype, "spectral"):
        x = _by_kernel(x, metric, power)
    elif transform == "matrix" or (
        transform == "auto" and not metric.coupled and _prefers_matrices(shape)
    ):
        x = _by_matrices(x, metric, power)
    else:
        x = _by_fft(x, metric, power)
    return x if after is None else x * after


def fourier_angles(size: int) -> np.ndarray:
    """Angle ``2 pi k / N`` of every column of `fourier_matrix`."""
    return 2 * np.pi * ((np.arange(size) + 1) // 2) / size


@functools.cache
def fourier_matrix(size: int) -> np.ndarray:
    """Orthonormal real Fourier basis ``[size, size]``: columns 1, cos, sin, cos 2, sin 2, ..."""
    angle = fourier_angles(size) * np.arange(size)[:, None]
    sine = np.arange(size) % 2 == 0  # column 0 is cos 0
    sine[0] = False
    matrix = np.where(sine, np.sin(angle), np.cos(angle))
    return matrix / np.sqrt((matrix**2).sum(0))


def _prefers_matrices(shape) -> bool:
    return platform() != "gpu" and max(shape) <= MATRIX_SIZE


def _by_fft(x, metric, power):
    shape, axes = x.shape[2:], tuple(range(2, x.ndim))
    frequencies = [np.fft.fftfreq(n) for n in shape[:-1]] + [np.fft.rfftfreq(shape[-1])]
    angles = _broadcastable([2 * np.pi * f for f in frequencies])
    across, along = metric.kernel(angles, power, x.dtype)
    y = jnp.fft.rfftn(x, axes=axes)
    out = y * across
    if along is not None:
        h = metric.spacing or (1.0,) * len(shape)
        wave = [jnp.asarray(np.sin(a) / s, x.dtype) for a, s in zip(angles, h)]
        squared = sum(w * w for w in wave)
        along = (along - across) / jnp.where(squared > 0, squared, 1.0)
        divergence = along * sum(w * y[:, j] for j, w in enumerate(wave))
        out = out + jnp.stack([w * divergence for w in wave], 1)
    return jnp.fft.irfftn(out, s=shape, axes=axes).astype(x.dtype)


def _by_kernel(x, metric, power):
    angles = _broadcastable([2 * np.pi * np.fft.fftfreq(n) for n in x.shape[2:]])
    symbol, _ = metric.kernel(angles, power, x.dtype)
    return spectral_filter(x, jnp.broadcast_to(symbol, x.shape[2:]))


def _by_matrices(x, metric, power):
    shape = x.shape[2:]
    angles = _broadcastable([fourier_angles(n) for n in shape])
    symbol, _ = metric.kernel(angles, power, x.dtype)
    matrices = [jnp.asarray(fourier_matrix(n), x.dtype) for n in shape]
    y = x.reshape(-1, *shape)
    for matrix in reversed(matrices):
        # The last axis comes out first: after a round all axes are back, with no transposition.
        y = jnp.einsum("wk,b...w->bk...", matrix, y, precision="highest")
    y = y * symbol
    for matrix in reversed(matrices):
        y = jnp.einsum("wk,b...k->bw...", matrix, y, precision="highest")
    return y.reshape(x.shape)


def _broadcastable(rows):
    n = len(rows)
    return [row.reshape(*(-1 if i == j else 1 for j in range(n))) for i, row in enumerate(rows)]
