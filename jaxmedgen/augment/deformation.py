"""Random displacement fields of the spatial stage: five kinds, in voxels.

========  =========================================================================  =======
kind      field                                                                      folds?
========  =========================================================================  =======
svf       flow of a stationary velocity, noise smoothed by a Gaussian                no
geodesic  end of a geodesic: initial velocity ``K^1/2 xi``, shot by EPDiff           no
grid      cubic B-spline of random control points (TorchIO, GenSeg)                  rarely
noise     smoothed uniform noise (Simard et al. 2003), older nnU-Net                 may
relative  smoothed normal noise, width and size a share of the volume (nnU-Net)      rarely
========  =========================================================================  =======

``relative`` is nnU-Net's "deformation scale" d: width ``s = d * size``, largest displacement drawn
from s/8 to s/2.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxmedgen.ops.affine import check_spacing
from jaxmedgen.ops.filters import gaussian_filter
from jaxmedgen.ops.resize import resize
from jaxmedgen.ops.shooting import shoot
from jaxmedgen.ops.sobolev import SobolevMetric, sample_velocity

_POWER = 3  # of the metric: flows are smooth in 3D


def random_geodesic(
    keys: Key[Array, " b"],
    shape: Sequence[int],
    spacing: Sequence[float | int],
    *,
    sigma: float | int,
    rms: Float[Array, " b"] | float | int | None = None,
    energy: Float[Array, " b"] | float | int | None = None,
    steps: int = 8,
) -> Float[Array, " b *s n"]:
    """Displacement in voxels of random geodesics of diffeomorphisms.

    The initial velocity is drawn from the Sobolev metric ``(1 - alpha Laplacian)^3`` with
    ``alpha = sigma^2 / 3``: its spectrum falls off at low frequencies as that of noise smoothed by
    a Gaussian of width `sigma`, so both kinds of deformation are comparable. Integrated on a
    coarser grid of at least four voxels to a `sigma`, periodic beyond a margin of one `sigma`, and
    interpolated by cubics.

    Args:
        keys: one key a sample.
        shape: spatial size.
        spacing: voxel size in mm.
        sigma: smoothness in mm.
        rms: root mean square of the initial velocity in mm, one number or one a sample. Paths bend,
            so the displacement's is smaller: about 0.8 of it in 2D and 0.5 in 3D.
        energy: in place of `rms`, the kinetic energy ``<L v, v> / 2`` in mm^2, which the geodesic
            keeps, of a cube with edge `sigma`. All modes of the prior have the same energy, so that
            the sum grows with the number of voxels: a voxel's counts as its share of that cube, and
            a number means the same at any resolution. Draws of one energy differ in size as the
            prior's do; the mean square of ``|v|`` is about a quarter of the energy in 2D and a
            ninth in 3D.
        steps: time steps of the shooting.

    Raises:
        ValueError: both or neither of `rms` and `energy`.
    """
    coarse, widths = [], []
    for size, width in zip(shape, check_spacing(spacing, len(shape))):
        factor = max(1, int(sigma / width / 4))
        coarse.append(max(math.ceil(size / factor), min(size, 4)))
        widths.append(size * width / coarse[-1])
    # Drawn like the rest and cut off, so that opposite faces do not move alike.
    margins = [math.ceil(sigma / width) for width in widths]
    padded = tuple(n + 2 * m for n, m in zip(coarse, margins))
    metric = SobolevMetric(alpha=sigma**2 / _POWER, power=_POWER, spacing=tuple(widths))
    if energy is not None:
        energy = energy * math.prod(sigma / width for width in widths)  # of a voxel
    start = sample_velocity(keys, padded, metric, rms=rms, mean_energy=energy, spacing=widths)
    end = shoot(start, metric, steps=steps, maps=("inverse",)).inverse
    inner = tuple(slice(m, m + n) for n, m in zip(coarse, margins))
    scale = [size / few for size, few in zip(shape, coarse)]
    return resize(end[(slice(None), *inner)], shape, order=3) * jnp.asarray(scale, end.dtype)


def random_relative_displacement(
    keys: Key[Array, " b"],
    shape: Sequence[int],
    *,
    scale: Float[Array, " b"],
    strength: Float[Array, " b"],
) -> Float[Array, " b *s n"]:
    """nnU-Net's elastic deformation relative to the volume, in voxels.

    Args:
        keys: one key a sample.
        shape: spatial size.
        scale: width of the smoothing over the size of each axis; 0 gives no displacement.
        strength: largest displacement of each axis over the width (nnU-Net: 1/8 to 1/2).
    """
    axes = len(shape)
    noise = jax.vmap(lambda key: jax.random.normal(key, (*shape, axes)))(keys)
    width = scale[:, None] * jnp.asarray(shape, jnp.float32)  # [b, n], voxels
    smooth = gaussian_filter(noise, width)
    largest = jnp.abs(smooth).max(tuple(range(1, axes + 1)), keepdims=True)
    wanted = (strength[:, None] * width).reshape(-1, *(1,) * axes, axes)
    return smooth / jnp.maximum(largest, 1e-12) * wanted


def mirrored(coordinates: Float[Array, " b *s n"], shape: Sequence[int]) -> Float[Array, " b *s n"]:
    """Coordinates beyond the volume, mirrored about its outermost voxel centres."""
    last = jnp.asarray([max(size - 1, 1) for size in shape], coordinates.dtype)
    return last - jnp.abs(jnp.mod(coordinates, 2 * last) - last)
