"""What a displacement field does to space: volume change, folding, curl, divergence, bending.

Fields ``[b, *space, n]`` are in voxels, components in array-axis order. Derivatives are central
differences, one-sided at the border. Determinant and divergence are free of units; curl and bending
energy depend on the voxel size, so they take a spacing in mm.

Sources: Rueckert et al., "Nonrigid registration using free-form deformations", 1999 (bending
energy); Leow et al., "Statistical properties of Jacobian maps and the realization of unbiased
large-deformation nonlinear image registration", 2007 (log-Jacobian).
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmedgen.ops.affine import check_spacing


def jacobian_matrix(
    field: Float[Array, " b *s n"], spacing: Sequence[float | int] | None = None
) -> Float[Array, " b *s n n"]:
    """``D_ij = d u_i / d p_j`` of a field in voxels.

    Args:
        field: displacement or velocity; at least two voxels an axis.
        spacing: voxel size in mm; with it the matrix is that of the field and positions in mm.

    Raises:
        ValueError: if an axis is too short or the spacing does not fit.
    """
    return jnp.stack([jnp.stack(row, -1) for row in _rows(field, spacing)], -2)


def jacobian_determinant(displacement: Float[Array, " b *s n"]) -> Float[Array, " b *s"]:
    """``det(I + Du)`` by central differences (one-sided at the border); <= 0 where space folds.

    The same number in voxels and in mm, whatever the voxel size.
    """
    rows = _rows(displacement)
    for i, row in enumerate(rows):
        row[i] = row[i] + 1.0
    if len(rows) == 2:
        (a, b), (c, d) = rows
        return a * d - b * c
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def log_jacobian_determinant(
    displacement: Float[Array, " b *s n"], *, minimum: float | int = 1e-6
) -> Float[Array, " b *s"]:
    """``log det(I + Du)``: relative volume change, 0 for none, symmetric in growth and shrinkage.

    Args:
        displacement: field in voxels.
        minimum: determinants below it are raised to it, so folded voxels give a finite number (and
            no gradient); count them with `folding_count`.

    Raises:
        ValueError: if `minimum` is not positive.
    """
    if minimum <= 0:
        raise ValueError(f"minimum {minimum} must be positive: the logarithm needs it")
    return jnp.log(jnp.maximum(jacobian_determinant(displacement), minimum))


def folding_count(displacement: Float[Array, " b *s n"]) -> Int[Array, " b"]:
    """Voxels with ``det(I + Du) <= 0``, one number a sample."""
    folded = jacobian_determinant(displacement) <= 0
    return jnp.sum(folded, tuple(range(1, folded.ndim)))


def folding_percentage(displacement: Float[Array, " b *s n"]) -> Float[Array, " b"]:
    """Percentage of voxels with ``det(I + Du) <= 0``, one number a sample."""
    folded = jacobian_determinant(displacement) <= 0
    return 100 * jnp.mean(folded, tuple(range(1, folded.ndim)), dtype=displacement.dtype)


def divergence(field: Float[Array, " b *s n"]) -> Float[Array, " b *s"]:
    """``sum_i d u_i / d p_i``; the same number in voxels and in mm."""
    return sum(row[i] for i, row in enumerate(_rows(field)))


def curl(
    field: Float[Array, " b *s n"], spacing: Sequence[float | int] | None = None
) -> Float[Array, " b *s r"]:
    """Rotation of a field: one component in 2D (``d_0 u_1 - d_1 u_0``), three in 3D.

    Args:
        field: displacement or velocity in voxels.
        spacing: voxel size in mm; with it the result is the curl of the field in mm. For an
            infinitesimal rotation it is twice the angle in radians.
    """
    d = _rows(field, spacing)
    if len(d) == 2:
        return (d[1][0] - d[0][1])[..., None]
    return jnp.stack([d[2][1] - d[1][2], d[0][2] - d[2][0], d[1][0] - d[0][1]], -1)


def bending_energy(
    displacement: Float[Array, " b *s n"], spacing: Sequence[float | int] | None = None
) -> Float[Array, " b"]:
    """Mean over the inner voxels of ``sum_ijk (d^2 u_i / d p_j d p_k)^2``; 0 for affine maps.

    Second differences ``[1, -2, 1]`` and central mixed differences, exact for quadratic fields. The
    outermost voxels are left out: there is no second difference at them.

    Args:
        displacement: field in voxels; at least three voxels an axis.
        spacing: voxel size in mm; with it the energy is that of the map in mm, in 1/mm^2.

    Raises:
        ValueError: if an axis is too short or the spacing does not fit.
    """
    axes = displacement.shape[-1]
    widths = _widths(displacement, spacing, 3)
    total = 0.0
    for j in range(axes):
        for k in range(j, axes):
            second = _second_difference(displacement, j, k)
            scale = jnp.asarray([widths[i] / (widths[j] * widths[k]) for i in range(axes)])
            size = jnp.sum((second * scale.astype(second.dtype)) ** 2, -1)
            total = total + (1 if j == k else 2) * size
    return jnp.mean(total, tuple(range(1, total.ndim)))


def _rows(field, spacing=None):
    """``rows[i][j] = d u_i / d p_j``, scaled to mm."""
    widths = _widths(field, spacing, 2)
    axes = field.shape[-1]
    rows = []
    for i in range(axes):
        gradient = [jnp.gradient(field[..., i], axis=j + 1) for j in range(axes)]
        if spacing is not None:
            gradient = [g * (widths[i] / widths[j]) for j, g in enumerate(gradient)]
        rows.append(gradient)
    return rows


def _widths(field, spacing, least):
    space, axes = field.shape[1:-1], field.shape[-1]
    if len(space) != axes or axes not in (2, 3):
        raise ValueError(
            f"field of shape {field.shape}: give [b, *space, n] with n = 2 or 3 spatial axes"
        )
    if min(space) < least:
        raise ValueError(f"field of spatial shape {space} needs at least {least} voxels an axis")
    return (1.0,) * axes if spacing is None else check_spacing(spacing, axes)


def _second_difference(x, j, k):
    """Second derivative along spatial axes j and k at the inner voxels."""

    def shifted(step_j, step_k):
        steps = [0] * (x.ndim - 2)
        steps[j] += step_j
        steps[k] += step_k
        inner = [slice(1 + s, size - 1 + s) for s, size in zip(steps, x.shape[1:-1])]
        return x[(slice(None), *inner)]

    if j == k:
        return shifted(1, 0) - 2 * shifted(0, 0) + shifted(-1, 0)
    return (shifted(1, 1) + shifted(-1, -1) - shifted(1, -1) - shifted(-1, 1)) / 4
