"""Affine maps about the centre of the field of view, in mm.

A map is a homogeneous matrix ``[b, n+1, n+1]`` that acts on positions in mm relative to the centre
of the volume, voxel coordinate ``(size - 1) / 2``. Maps compose by matrix multiplication. Used as
*sampling* maps: the output at p shows the input at ``T(p)``.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def check_spacing(spacing: Sequence[float | int], axes: int) -> tuple[float, ...]:
    """A voxel size in mm as a tuple of floats.

    Raises:
        ValueError: if it does not have one positive size for each of `axes`.
    """
    sizes = tuple(float(size) for size in spacing)
    if len(sizes) != axes or not all(0 < size < float("inf") for size in sizes):
        raise ValueError(f"spacing {sizes}: give {axes} positive sizes in mm, one an axis")
    return sizes


def affine_matrix(
    rotation: Float[Array, " b r"],
    scale: Float[Array, " b n"],
    shear: Float[Array, " b r"] | None = None,
    translation: Float[Array, " b n"] | None = None,
) -> Float[Array, " b m m"]:
    """``T = translate . rotate . shear . scale`` as homogeneous matrices, ``m = n + 1``.

    Args:
        rotation: angles in radians; 2D: one (from axis 0 to axis 1), 3D: one about each axis,
            applied about axis 2 first, then 1, then 0.
        scale: factor an axis; above 1 the sampled object looks smaller.
        shear: entries of the unit upper triangular shear matrix, tangents of the shear angles, in
            the order 01 or 01, 02, 12.
        translation: shift in mm an axis.

    Raises:
        ValueError: if the number of angles does not fit the number of axes.
    """
    axes = scale.shape[-1]
    if rotation.shape[-1] != {2: 1, 3: 3}.get(axes):
        raise ValueError(f"{rotation.shape[-1]} angles for {axes} axes: 2D takes 1, 3D takes 3")
    batch = scale.shape[:-1]
    planes = [(0, 1)] if axes == 2 else [(1, 2), (2, 0), (0, 1)]
    eye = jnp.broadcast_to(jnp.eye(axes, dtype=scale.dtype), (*batch, axes, axes))
    turn = eye
    for angle, (i, j) in zip(jnp.moveaxis(rotation, -1, 0), planes):
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        one = eye.at[:, i, i].set(cos).at[:, j, j].set(cos)
        turn = _matmul(turn, one.at[:, i, j].set(-sin).at[:, j, i].set(sin))
    if shear is not None:
        rows, columns = jnp.triu_indices(axes, 1)
        turn = _matmul(turn, eye.at[:, rows, columns].set(shear))
    linear = turn * scale[:, None, :]
    out = jnp.zeros((*batch, axes + 1, axes + 1), scale.dtype).at[:, axes, axes].set(1.0)
    out = out.at[:, :axes, :axes].set(linear)
    return out if translation is None else out.at[:, :axes, axes].set(translation)


def transform_coordinates(
    matrix: Float[Array, " b m m"],
    coordinates: Float[Array, " #b *o n"],
    shape: Sequence[int],
    spacing: Sequence[float | int] | None = None,
) -> Float[Array, " b *o n"]:
    """Voxel coordinates moved by an affine map that acts in mm about the volume's centre.

    Args:
        matrix: homogeneous maps of `affine_matrix`.
        coordinates: voxel coordinates; a batch of one is shared by all maps.
        shape: size of the volume in voxels, gives the centre.
        spacing: voxel size in mm; isotropic 1 mm when left out.

    Raises:
        ValueError: if matrix or spacing do not fit the number of axes.
    """
    axes = len(shape)
    if matrix.shape[-1] != axes + 1:
        raise ValueError(
            f"matrix of shape {matrix.shape} for a volume of shape {tuple(shape)}: "
            f"give homogeneous {axes + 1} x {axes + 1} matrices"
        )
    spacing = (1.0,) * axes if spacing is None else check_spacing(spacing, axes)
    centre = [(size - 1) / 2 for size in shape]
    lift = (slice(None),) + (None,) * (coordinates.ndim - 2)
    # Written out rather than as a matmul: it fuses with the gather and stays float32 everywhere.
    offset = [(coordinates[..., j] - centre[j]) * spacing[j] for j in range(axes)]
    moved = []
    for i in range(axes):
        total = matrix[:, i, axes][lift]
        for j in range(axes):
            total = total + matrix[:, i, j][lift] * offset[j]
        moved.append(total / spacing[i] + centre[i])
    return jnp.stack(moved, -1)


def affine_coordinates(
    matrix: Float[Array, " b m m"],
    shape: Sequence[int],
    spacing: Sequence[float | int] | None = None,
) -> Float[Array, " b *s n"]:
    """Where each voxel of a volume of `shape` is sent, in voxels."""
    axes = [jnp.arange(size, dtype=matrix.dtype) for size in shape]
    grid = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), -1)[None]
    return transform_coordinates(matrix, grid, shape, spacing)


def affine_displacement(
    matrix: Float[Array, " b m m"],
    shape: Sequence[int],
    spacing: Sequence[float | int] | None = None,
) -> Float[Array, " b *s n"]:
    """The same map as a displacement field in voxels."""
    axes = [jnp.arange(size, dtype=matrix.dtype) for size in shape]
    grid = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), -1)[None]
    return transform_coordinates(matrix, grid, shape, spacing) - grid


def invert_affine(matrix: Float[Array, " b m m"]) -> Float[Array, " b m m"]:
    """The inverse maps ``x -> A^-1 (x - t)``.

    Args:
        matrix: homogeneous maps of `affine_matrix`.

    Raises:
        ValueError: if a matrix is singular; under `jit`, where values are unknown, the result is
            not finite instead.
    """
    check_invertible(matrix)
    linear, shift = matrix[:, :-1, :-1], matrix[:, :-1, -1:]
    inverse = jnp.linalg.inv(linear)
    top = jnp.concatenate([inverse, -_matmul(inverse, shift)], -1)
    return jnp.concatenate([top, matrix[:, -1:]], -2)


def check_invertible(matrix: Float[Array, " b m m"], *, orientation: bool = False) -> None:
    """Refuses singular maps, and reflecting ones if asked; passes whatever is being traced.

    Args:
        matrix: homogeneous maps.
        orientation: a negative determinant is refused too.

    Raises:
        ValueError: for the first such map.
    """
    if isinstance(matrix, jax.core.Tracer):
        return
    linear = np.asarray(matrix, np.float64)[:, :-1, :-1]
    determinants = np.linalg.det(linear)
    # Relative to the size of the rows: a map of small scale is not singular.
    size = np.prod(np.linalg.norm(linear, axis=-1), -1)
    bad = ~(np.abs(determinants) > 1e-6 * size)
    for index in np.flatnonzero(bad | (orientation & (determinants < 0))):
        what = "singular" if bad[index] else "a reflection"
        want = "orientation-preserving, invertible" if orientation else "invertible"
        raise ValueError(
            f"matrix {index} is {what} (determinant {determinants[index]:.3g}): "
            f"give {want} affine maps"
        )


def _matmul(a, b):
    return jnp.matmul(a, b, precision="highest")
