"""Fields from a coarse grid of cubic B-spline control points (free-form deformations).

``u(p) = sum_i c_i B(p/h - i)``, a tensor product of uniform cubic B-splines. A grid of m control
points an axis has m - 3 cells between the centres of the first and the last voxel; control point 1
lies on the first voxel, point 0 one cell outside. That is ITK's BSplineTransform of mesh size
m - 3. Evaluation is one small dense matrix an axis.

Sources: Rueckert et al., "Nonrigid registration using free-form deformations", 1999; Choi & Lee,
"Injectivity conditions of 2D and 3D uniform cubic B-spline functions", 2000 (no folding).
"""

import functools
import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxmedgen.ops.affine import check_spacing
from jaxmedgen.ops.resize import apply_matrices


def control_shape(
    shape: Sequence[int], control_spacing: Sequence[float | int] | float | int
) -> tuple[int, ...]:
    """Control points an axis so that they are at most `control_spacing` voxels apart.

    Args:
        shape: spatial size of the volume.
        control_spacing: largest distance in voxels, one number or one an axis.

    Raises:
        ValueError: if a distance is not positive.
    """
    one = isinstance(control_spacing, int | float)
    distances = (control_spacing,) * len(shape) if one else tuple(control_spacing)
    if len(distances) != len(shape) or min(distances) <= 0:
        raise ValueError(
            f"control_spacing {control_spacing} for a volume of shape {tuple(shape)}: "
            "give a positive distance in voxels, one or one an axis"
        )
    cells = (max(1, math.ceil((size - 1) / d - 1e-9)) for size, d in zip(shape, distances))
    return tuple(count + 3 for count in cells)


def bspline_field(
    control: Float[Array, " b *g c"], shape: Sequence[int], *, locked_layers: int = 0
) -> Float[Array, " b *s c"]:
    """Field of a volume from B-spline coefficients on a control grid.

    Args:
        control: coefficients, at least 4 an axis, any number of channels.
        shape: spatial size of the volume.
        locked_layers: so many outer layers of control points are set to zero. 3 makes the field and
            its first two derivatives vanish at the outermost voxels; 2 (TorchIO) leaves a sixth of
            the third layer there.

    Raises:
        ValueError: if the grid has fewer than 4 points on an axis, or another number of axes.
    """
    grid = control.shape[1:-1]
    if len(grid) != len(shape) or min(grid) < 4:
        raise ValueError(
            f"control grid of shape {grid} for a volume of shape {tuple(shape)}: "
            "a cubic B-spline needs at least 4 points on each axis"
        )
    if locked_layers < 0:
        raise ValueError(f"locked_layers {locked_layers}: give the number of layers, 0 for none")
    rows = [_bspline_rows(size, count, locked_layers) for size, count in zip(shape, grid)]
    return apply_matrices(control, rows)


def random_bspline_displacement(
    keys: Key[Array, " b"],
    shape: Sequence[int],
    spacing: Sequence[float | int],
    *,
    amplitude: Float[Array, " b"] | Float[Array, "b n"] | float | int,
    controls: int | Sequence[int] = 7,
    locked_layers: int = 2,
    distribution: Literal["uniform", "normal"] = "uniform",
) -> Float[Array, " b *s n"]:
    """Elastic deformation by independent random control points (TorchIO, GenSeg).

    Does not fold while the displacement of control points stays below 0.4 of their distance.

    Args:
        keys: one key a sample.
        shape: spatial size.
        spacing: voxel size in mm.
        amplitude: in mm: half-width of the uniform or standard deviation of the normal
            distribution, one number, one a sample, or one a sample and axis.
        controls: control points an axis, one number or one an axis.
        locked_layers: as in `bspline_field`.
        distribution: of each component of each control point.

    Returns:
        Displacement in voxels.

    Raises:
        ValueError: for a bad grid, spacing or distribution.
    """
    axes = len(shape)
    spacing = check_spacing(spacing, axes)
    counts = (controls,) * axes if isinstance(controls, int) else tuple(controls)
    draws = {
        "uniform": functools.partial(jax.random.uniform, minval=-1.0, maxval=1.0),
        "normal": jax.random.normal,
    }
    if distribution not in draws:
        raise ValueError(f"distribution {distribution!r} is unknown: use {' or '.join(draws)}")
    draw = functools.partial(draws[distribution], shape=(*counts, axes))
    amplitude = jnp.asarray(amplitude, jnp.float32)
    if amplitude.ndim < 2:
        amplitude = jnp.broadcast_to(amplitude, keys.shape)[:, None]
    control = jax.vmap(draw)(keys) * amplitude.reshape(len(keys), *(1,) * axes, -1)
    return bspline_field(control / jnp.asarray(spacing), shape, locked_layers=locked_layers)


@functools.cache
def _bspline_rows(size: int, controls: int, locked: int) -> np.ndarray:
    """Weights ``[size, controls]`` of one axis."""
    cells = controls - 3
    position = np.arange(size) * (cells / max(size - 1, 1)) + 1  # in units of control points
    distance = np.abs(position[:, None] - np.arange(controls))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.maximum(2 - distance, 0) ** 3 / 6
    weight = np.where(distance < 1, near, far)
    weight[:, :locked] = 0
    weight[:, max(controls - locked, 0) :] = 0
    return weight
