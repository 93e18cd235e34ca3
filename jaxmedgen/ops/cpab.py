"""CPAB: diffeomorphisms of the unit cube from continuous piecewise-affine velocities, 1D to 3D.

The flow of ``v(x) = A_c (x, 1)`` to time 1 in N equal steps: find the cell of every point, apply
that cell's ``exp(A_c / N)``. A step is exact inside of a cell and first order where a point changes
cells. The exponentials are computed once a parameter vector; a step is one lookup and one small
matrix product a point. ``-theta`` gives the inverse map.

Positions run from 0 to 1, the centres of the outermost voxels. Sources: see `cpab_tessellation`.
"""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from jaxmedgen.ops import cpab_tessellation as spaces
from jaxmedgen.ops.cpab_tessellation import Tessellation
from jaxmedgen.ops.lie import matrix_exponential

Basis = Literal["nodal", "svd"]


def cpab_transform(
    theta: Float[Array, " b p"],
    points: Float[Array, " #b *o d"],
    tessellation: Tessellation,
    *,
    steps: int = 50,
    basis: Basis = "nodal",
) -> Float[Array, " b *o d"]:
    """Where the flow of ``theta`` carries points of the unit cube; zero is the identity.

    Reverse derivatives recompute each step from its points: memory is one set of points a step.

    Args:
        theta: parameters; for "nodal" the velocities of the vertices in unit cubes per unit of
            time, for "svd" coordinates in the orthonormal basis.
        points: positions in [0, 1]; a batch of one is shared. Beyond the cube the outermost cell's
            velocity continues.
        tessellation: the space of velocities; ``tessellation.dimension`` parameters.
        steps: number N of steps; not adapted: a large theta crosses several cells a step.
        basis: which basis theta refers to.

    Raises:
        ValueError: for a wrong number of parameters or axes, an unknown basis, or steps below 1.
    """
    if steps < 1:
        raise ValueError(f"steps {steps}: give at least 1")
    _check_points(points, tessellation)
    exponentials = _step_matrices(cpab_matrices(theta, tessellation, basis=basis) / steps)
    batch = theta.shape[0]
    flat = jnp.broadcast_to(points, (batch, *points.shape[1:])).reshape(batch, -1, points.shape[-1])

    @jax.checkpoint
    def step(x):
        return _apply(_lookup(exponentials, x, tessellation), x)

    moved = jax.lax.scan(lambda x, _: (step(x), None), flat, length=steps)[0]
    return moved.reshape(batch, *points.shape[1:])


def cpab_coordinates(
    theta: Float[Array, " b p"],
    shape: Sequence[int],
    tessellation: Tessellation,
    *,
    steps: int = 50,
    basis: Basis = "nodal",
) -> Float[Array, " b *s d"]:
    """Where each voxel of a volume is carried, in voxels: sampling coordinates for `resample`.

    Arguments as in `cpab_transform`; the cube's corners are the centres of the corner voxels.
    """
    shape = tuple(shape)
    axes = [jnp.linspace(0.0, 1.0, size, dtype=theta.dtype) for size in shape]
    grid = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), -1)[None]
    moved = cpab_transform(theta, grid, tessellation, steps=steps, basis=basis)
    return moved * (jnp.asarray(shape, theta.dtype) - 1)


def cpab_velocity(
    theta: Float[Array, " b p"],
    points: Float[Array, " #b *o d"],
    tessellation: Tessellation,
    *,
    basis: Basis = "nodal",
) -> Float[Array, " b *o d"]:
    """The velocity ``A_c (x, 1)`` at points of the unit cube. Arguments as in `cpab_transform`."""
    _check_points(points, tessellation)
    matrices = cpab_matrices(theta, tessellation, basis=basis)
    batch = theta.shape[0]
    flat = jnp.broadcast_to(points, (batch, *points.shape[1:])).reshape(batch, -1, points.shape[-1])
    return _apply(_lookup(matrices, flat, tessellation), flat).reshape(batch, *points.shape[1:])


def cpab_matrices(
    theta: Float[Array, " b p"], tessellation: Tessellation, *, basis: Basis = "nodal"
) -> Float[Array, " b cells d k"]:
    """The affine velocity A_c of every cell, ``k = d + 1``. Arguments as in `cpab_transform`."""
    spaces.check_basis(basis, tessellation)
    if theta.shape[-1] != tessellation.dimension:
        raise ValueError(
            f"theta of shape {theta.shape}: {tessellation} has {tessellation.dimension} parameters"
        )
    d = tessellation.axes
    if basis == "svd":
        dense = jnp.asarray(spaces.svd_basis(tessellation), theta.dtype)
        return jnp.matmul(theta, dense.T, precision="highest").reshape(len(theta), -1, d, d + 1)
    index = spaces.free_components(tessellation)[spaces.simplices(tessellation)]  # [cells, k, d]
    padded = jnp.concatenate([theta, jnp.zeros_like(theta[:, :1])], 1)
    corners = padded[:, index]  # index -1 takes the zero
    inverse = jnp.asarray(spaces.barycentric(tessellation), theta.dtype)
    return jnp.einsum("bcvi,cvk->bcik", corners, inverse, precision="highest")


def cpab_prior_sample(
    keys: Key[Array, " b"],
    tessellation: Tessellation,
    *,
    basis: Basis = "nodal",
    scale: Float[Array, " b"] | float | int = 1.0,
    length: float | int = 0.1,
) -> Float[Array, " b p"]:
    """Random parameters whose velocities resemble each other in neighbouring cells.

    The covariance is that of `cpab_tessellation.smooth_covariance`.

    Args:
        keys: one key a sample.
        tessellation: the space of velocities.
        basis: which basis the parameters refer to.
        scale: standard deviation of the entries before projection, one number or one a sample.
        length: correlation length in the unit cube.

    Raises:
        ValueError: for an unknown basis or a length that is not positive.
    """
    spaces.check_basis(basis, tessellation)
    if length <= 0:
        raise ValueError(f"length {length} must be positive")
    covariance = spaces.smooth_covariance(tessellation, basis=basis, scale=1.0, length=length)
    values, vectors = np.linalg.eigh(covariance)
    root = jnp.asarray(vectors * np.sqrt(np.maximum(values, 0)), jnp.float32)
    noise = jax.vmap(lambda key: jax.random.normal(key, (len(root),)))(keys)
    scale = jnp.broadcast_to(jnp.asarray(scale, jnp.float32), keys.shape)
    return scale[:, None] * jnp.matmul(noise, root.T, precision="highest")


def cell_index(points: Float[Array, " *o d"], tessellation: Tessellation) -> Int[Array, " *o"]:
    """The cell that each point of the unit cube lies in; points outside take the nearest box."""
    cells = jnp.asarray(tessellation.cells, points.dtype)
    scaled = points * cells
    # A point at exactly 1 belongs to the last box.
    box = jnp.clip(jnp.floor(scaled), 0, cells - 1)
    local = jnp.moveaxis(scaled - box, -1, 0)
    box = jnp.moveaxis(box.astype(jnp.int32), -1, 0)
    index = box[0]
    for axis in range(1, tessellation.axes):
        index = index * tessellation.cells[axis] + box[axis]
    if tessellation.axes == 1:
        return index
    if tessellation.axes == 2:
        a, b = local
        # Which of the diagonals' sides; the order is that of the triangles' table.
        above, beyond = (a > b).astype(jnp.int32), (a + b > 1).astype(jnp.int32)
        return 4 * index + jnp.where(above == beyond, above, 3 - above)
    a, b, c = local
    a = jnp.where(sum(box) % 2 == 1, 1 - a, a)
    # Ties go to the outer tetrahedra: on a face's diagonal the inner one would not keep the face.
    tie = 1e-5
    outside = [a + b + c >= 2 - tie, a >= b + c - tie, b >= a + c - tie, c >= a + b - tie]
    part = jnp.select(outside, [0, 1, 2, 3], 4)
    return 5 * index + part.astype(jnp.int32)


def _step_matrices(a):
    """``exp`` of the velocities ``[b, cells, d, k]`` without their constant last row."""
    square = jnp.concatenate([a, jnp.zeros_like(a[..., :1, :])], -2)
    return matrix_exponential(square)[..., :-1, :]


def _lookup(matrices, points, tessellation):
    """The matrix of each point's cell, ``[b, points, d, k]``."""
    take = jax.vmap(lambda table, index: table.at[index].get(mode="promise_in_bounds"))
    return take(matrices, cell_index(points, tessellation))


def _apply(matrices, points):
    return jnp.sum(matrices[..., :-1] * points[..., None, :], -1) + matrices[..., -1]


def _check_points(points, tessellation):
    if points.shape[-1] != tessellation.axes:
        raise ValueError(
            f"points of shape {points.shape} for {tessellation}: "
            f"the last axis must have size {tessellation.axes}"
        )
