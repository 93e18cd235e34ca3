"""Fields from control points with Wendland's C4 kernel, and the Gram matrix of the kernel.

``v(x) = sum_i p_i psi(|x - x_i| / s)`` with ``psi(r) = (1 - r)^6_+ (35 r^2 + 18 r + 3) / 3`` and
control points x_i on a regular grid. The kernel is radial, so it does not separate into axes; but
all voxels of one phase within their cell see the same weights, and evaluation is one matrix product
of the control points around each cell with a table of weights.

Sources: Wendland, "Piecewise polynomial, positive definite and compactly supported radial functions
of minimal degree", 1995; Pai et al., "Kernel bundle diffeomorphic image registration using
stationary velocity fields and Wendland basis functions", 2016.
"""

import itertools
import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def wendland_c4(r: Float[Array, " *s"]) -> Float[Array, " *s"]:
    """``psi(r) = (1 - r)^6_+ (35 r^2 + 18 r + 3) / 3``: 1 at 0, four times differentiable."""
    return _psi(r, jnp)


def wendland_control_shape(shape: Sequence[int], control_spacing: int) -> tuple[int, ...]:
    """Control points an axis so that the grid, centred on the volume, reaches its faces."""
    if control_spacing < 1:
        raise ValueError(f"control_spacing {control_spacing}: give a whole number of voxels, >= 1")
    return tuple(math.ceil((size - 1) / control_spacing) + 1 for size in shape)


def wendland_field(
    coefficients: Float[Array, " b *g c"],
    shape: Sequence[int],
    *,
    control_spacing: int,
    support: float | int = 2.5,
) -> Float[Array, " b *s c"]:
    """Field of a volume from Wendland control points on a regular grid centred on it.

    Control point i of an axis with m points lies at voxel ``(size - 1) / 2 + h (i - (m - 1) / 2)``.
    There are ``(2 support)^n`` terms a voxel.

    Args:
        coefficients: p_i, any number of channels.
        shape: spatial size of the volume.
        control_spacing: distance h of control points in voxels, a whole number.
        support: radius s of the kernel in units of h; 2 to 3 as a rule.

    Raises:
        ValueError: for a grid of another number of axes, a support or spacing that is not positive.
    """
    grid = coefficients.shape[1:-1]
    if len(grid) != len(shape):
        raise ValueError(
            f"coefficients on a grid of shape {grid} for a volume of shape {tuple(shape)}: "
            "both need the same number of axes"
        )
    if control_spacing < 1 or support <= 0:
        raise ValueError(
            f"control_spacing {control_spacing}, support {support}: "
            "give a whole number of voxels and a positive radius in control spacings"
        )
    return _evaluate(coefficients, tuple(shape), control_spacing, support)


def wendland_gram(
    grid: Sequence[int], *, support: float | int = 2.5
) -> Float[np.ndarray, "points points"]:
    """``(K_w)_ij = psi(|i - j| / s)`` of a control grid, positive definite, row-major points.

    Args:
        grid: control points an axis.
        support: radius of the kernel in control spacings.
    """
    axes = [np.arange(size) for size in grid]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(grid))
    squared = sum((points[:, None, d] - points[None, :, d]) ** 2 for d in range(len(grid)))
    return _psi(np.sqrt(squared) / support, np)


def wendland_energy(
    coefficients: Float[Array, " b *g c"], *, support: float | int = 2.5
) -> Float[Array, " b"]:
    """``p^T K_w p`` summed over the channels: the squared norm of the field in the kernel's space.

    Computed as a stencil on the grid, without the matrix.

    Args:
        coefficients: p, as in `wendland_field`.
        support: radius of the kernel in control spacings.
    """
    smoothed = _evaluate(coefficients, coefficients.shape[1:-1], 1, support)
    return jnp.sum(coefficients * smoothed, tuple(range(1, coefficients.ndim)))


def _evaluate(coefficients, shape, spacing, support):
    grid = coefficients.shape[1:-1]
    axes = len(grid)
    reach = math.ceil(support)
    taps = np.arange(1 - reach, reach + 1)  # control points around a cell
    blocks, phases, crops, padding = [], [], [], []
    for size, count in zip(shape, grid):
        first = (spacing * (count - 1) - (size - 1)) / 2  # of voxel 0, in voxels from point 0
        block = math.floor(first / spacing)
        blocks_here = math.floor((first + size - 1) / spacing) - block + 1
        crop = math.floor(first) - block * spacing
        crops.append(slice(crop, crop + size))
        phases.append((np.arange(spacing) + first - math.floor(first)) / spacing)
        blocks.append(blocks_here)
        low, high = -(block + taps[0]), block + blocks_here - 1 + taps[-1] - (count - 1)
        padding.append((low, high))
    table = _table(phases, taps, support, axes).astype(coefficients.dtype)  # [taps^n, phases^n]
    # Negative padding cuts off control points that no voxel sees.
    padded = _pad(coefficients, padding)
    windows = [
        padded[(slice(None), *(slice(t, t + b) for t, b in zip(corner, blocks)))]
        for corner in itertools.product(range(len(taps)), repeat=axes)
    ]
    patches = jnp.stack(windows, -1)  # [b, *blocks, c, taps^n]
    cells = jnp.matmul(patches, table, precision="highest")
    batch, channels = coefficients.shape[0], coefficients.shape[-1]
    cells = cells.reshape(batch, *blocks, channels, *(spacing,) * axes)
    order = [0]
    for d in range(axes):
        order += [1 + d, 2 + axes + d]
    volume = cells.transpose(*order, 1 + axes)
    volume = volume.reshape(batch, *(b * spacing for b in blocks), channels)
    return volume[(slice(None), *crops)]


def _pad(x, padding):
    for axis, (low, high) in enumerate(padding, 1):
        stop = x.shape[axis] - max(-high, 0)
        x = x[(slice(None),) * axis + (slice(max(-low, 0), stop),)]
    pads = [(max(low, 0), max(high, 0)) for low, high in padding]
    return jnp.pad(x, [(0, 0), *pads, (0, 0)])


def _table(phases, taps, support, axes):
    """Kernel values from every control point around a cell to every voxel in it."""
    squared = 0.0
    for d in range(axes):
        distance = (phases[d][None, :] - taps[:, None]) ** 2
        shape = [1] * (2 * axes)
        shape[d], shape[axes + d] = distance.shape
        squared = squared + distance.reshape(shape)
    table = _psi(np.sqrt(squared) / support, np)
    return table.reshape(len(taps) ** axes, -1)


def _psi(r, numpy):
    return numpy.maximum(1 - r, 0) ** 6 * (35 * r**2 + 18 * r + 3) / 3
