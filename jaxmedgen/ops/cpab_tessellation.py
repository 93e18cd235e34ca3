"""Tessellations of the unit cube and the spaces of continuous piecewise-affine (CPA) velocities.

Cells are intervals (1D), the four triangles around the centre of every rectangle (2D), or the five
tetrahedra of every box, mirrored in alternating boxes so that faces match (3D). A velocity is one
affine map ``v(x) = A_c (x, 1)`` a cell; continuity and the boundary condition are linear in the
entries of all A_c, whose solutions are spanned by a basis ``vec(A) = B theta``.

Two bases of the same space: "nodal", the velocities of the vertices (components normal to the
boundary left out), local and free of decompositions; and "svd", an orthonormal basis of the null
space of the constraint matrix, the original's, in which ``theta ~ N(0, I)`` has the published
strength. Everything here is NumPy in float64, done once a tessellation.

Sources: Freifeld et al., "Transformations based on continuous piecewise-affine velocity fields",
2017; Detlefsen & Hauberg, "Explicit disentanglement of appearance and perspective in generative
models", 2019.
"""

import dataclasses
import functools
import itertools

import numpy as np
import scipy.spatial.distance
from jaxtyping import Float, Int

# Corners of a unit box: the inner tetrahedron has the corners of even coordinate sum, each of the
# others one odd corner and its three even neighbours. The order is that of `cell_index`.
_TETRAHEDRA = (
    ((1, 1, 1), (0, 1, 1), (1, 0, 1), (1, 1, 0)),
    ((1, 0, 0), (0, 0, 0), (1, 1, 0), (1, 0, 1)),
    ((0, 1, 0), (0, 0, 0), (1, 1, 0), (0, 1, 1)),
    ((0, 0, 1), (0, 0, 0), (1, 0, 1), (0, 1, 1)),
    ((0, 0, 0), (1, 1, 0), (1, 0, 1), (0, 1, 1)),
)
_CENTRE = (0.5, 0.5)
# Sides of a rectangle: axis-0 low and high, axis-1 low and high.
_TRIANGLES = (
    ((0, 0), (0, 1), _CENTRE),
    ((1, 0), (1, 1), _CENTRE),
    ((0, 0), (1, 0), _CENTRE),
    ((0, 1), (1, 1), _CENTRE),
)


@dataclasses.dataclass(frozen=True)
class Tessellation:
    """Which velocities are meant; hashable, so it can be a static argument.

    Attributes:
        cells: intervals, rectangles or boxes an axis; one, two or three axes.
        zero_boundary: no flow through the boundary: the normal velocity is zero there (points may
            slide along it), so the map sends the cube onto itself.
        volume_preserving: the trace of every A_c is zero, so the map keeps volumes. The space may
            be empty, and always is in 1D with zero boundary.
    """

    cells: tuple[int, ...]
    zero_boundary: bool = True
    volume_preserving: bool = False

    def __post_init__(self) -> None:
        if len(self.cells) not in (1, 2, 3) or min(self.cells) < 1:
            raise ValueError(f"cells {self.cells}: give one, two or three counts of at least 1")

    @property
    def axes(self) -> int:
        """Number of spatial axes."""
        return len(self.cells)

    @property
    def dimension(self) -> int:
        """Number of parameters."""
        if self.volume_preserving:
            return svd_basis(self).shape[-1]
        return int(free_components(self).max(initial=-1)) + 1


@functools.cache
def vertices(tessellation: Tessellation) -> Float[np.ndarray, "v d"]:
    """Positions of all vertices in the unit cube."""
    return _geometry(tessellation.cells)[0]


@functools.cache
def simplices(tessellation: Tessellation) -> Int[np.ndarray, "cells k"]:
    """Vertices of each cell, ``k = d + 1``; boxes in row-major order, their parts innermost."""
    return _geometry(tessellation.cells)[1]


@functools.cache
def free_components(tessellation: Tessellation) -> Int[np.ndarray, "v d"]:
    """Index of the nodal parameter of each vertex and component; -1 where it is fixed at zero."""
    points = vertices(tessellation)
    fixed = (points == 0) | (points == 1)  # component i on a face normal to axis i
    free = ~fixed if tessellation.zero_boundary else np.ones_like(fixed)
    return np.where(free, np.cumsum(free).reshape(free.shape) - 1, -1)


@functools.cache
def barycentric(tessellation: Tessellation) -> Float[np.ndarray, "cells k k"]:
    """``X_c^-1`` of each cell, X_c the vertices' homogeneous columns: ``A_c = V_c X_c^-1``."""
    corners = vertices(tessellation)[simplices(tessellation)]  # [cells, k, d]
    columns = np.concatenate([corners, np.ones_like(corners[..., :1])], -1).swapaxes(1, 2)
    return np.linalg.inv(columns)


@functools.cache
def nodal_basis(tessellation: Tessellation) -> Float[np.ndarray, "entries p"]:
    """Dense matrix from nodal parameters to ``vec(A)``, row-major ``[cells, d, d + 1]``.

    Raises:
        ValueError: for volume-preserving velocities, which have no nodal basis.
    """
    check_basis("nodal", tessellation)
    inverse, free = barycentric(tessellation), free_components(tessellation)
    cells, k = inverse.shape[:2]
    basis = np.zeros((cells, k - 1, k, tessellation.dimension + 1))
    for vertex in range(k):
        parameter = free[simplices(tessellation)[:, vertex]]  # [cells, d]
        for i in range(k - 1):
            basis[np.arange(cells), i, :, parameter[:, i]] += inverse[:, vertex, :]
    return basis[..., :-1].reshape(-1, tessellation.dimension)  # -1 wrote to the last column


@functools.cache
def constraint_matrix(tessellation: Tessellation) -> Float[np.ndarray, "rows entries"]:
    """Linear conditions on ``vec(A)``, row-major ``[cells, d, d + 1]``, whose null space is meant.

    Equal velocity at the d vertices that two neighbouring cells share; zero normal velocity at
    boundary vertices; zero trace.
    """
    points, cells = vertices(tessellation), simplices(tessellation)
    d = tessellation.axes
    rows = []

    def row(*terms):
        out = np.zeros((len(cells), d, d + 1))
        for cell, component, position, sign in terms:
            out[cell, component] += sign * np.append(position, 1.0)
        rows.append(out.reshape(-1))

    owners: dict[tuple[int, ...], int] = {}
    for cell, corners in enumerate(cells):
        for facet in itertools.combinations(sorted(corners), d):
            other = owners.setdefault(facet, cell)
            if other != cell:
                for vertex, i in itertools.product(facet, range(d)):
                    row((cell, i, points[vertex], 1.0), (other, i, points[vertex], -1.0))
        if tessellation.zero_boundary:
            for vertex, i in itertools.product(corners, range(d)):
                if points[vertex, i] in (0.0, 1.0):
                    row((cell, i, points[vertex], 1.0))
        if tessellation.volume_preserving:
            trace = np.zeros((len(cells), d, d + 1))
            trace[cell, range(d), range(d)] = 1.0
            rows.append(trace.reshape(-1))
    return np.stack(rows) if rows else np.zeros((0, len(cells) * d * (d + 1)))


@functools.cache
def svd_basis(tessellation: Tessellation) -> Float[np.ndarray, "entries p"]:
    """Orthonormal null-space basis B of the constraint matrix (singular values <= 1e-6).

    Dense: seconds for 3 x 3 x 3 boxes. The nodal basis has no such limit.
    """
    matrix = constraint_matrix(tessellation)
    # The triangular factor has the same null space and is square at most.
    factor = np.linalg.qr(matrix, mode="r") if len(matrix) > matrix.shape[1] else matrix
    _, singular, rows = np.linalg.svd(factor)
    return rows[int((singular > 1e-6).sum()) :].T


@functools.cache
def largest_speed(tessellation: Tessellation) -> float:
    """Largest component of a vertex's velocity that one parameter of `svd_basis` at 1 causes.

    In unit cubes per unit of time; of the nodal basis it is 1.
    """
    corners = vertices(tessellation)[simplices(tessellation)]  # [cells, k, d]
    columns = np.concatenate([corners, np.ones_like(corners[..., :1])], -1)
    matrices = svd_basis(tessellation).reshape(
        len(corners), corners.shape[-1], -1, tessellation.dimension
    )
    return float(np.abs(np.einsum("cvk,cikp->cvip", columns, matrices)).max())


@functools.cache
def smooth_covariance(
    tessellation: Tessellation, *, basis: str, scale: float | int, length: float | int
) -> Float[np.ndarray, "p p"]:
    """Covariance of parameters whose velocities are smooth across cells.

    Between equal entries of two A_c it is ``scale^2 exp(-dist / (2 length^2))`` with the distance
    of the cells' centres, between different entries zero; this is projected onto the space of
    continuous velocities, so both bases stand for the same distribution of velocities.

    Args:
        tessellation: the space.
        basis: "nodal" or "svd".
        scale: standard deviation before the projection.
        length: how far cells resemble each other, in the unit cube.
    """
    centres = vertices(tessellation)[simplices(tessellation)].mean(1)
    distance = scipy.spatial.distance.cdist(centres, centres)
    kernel = scale**2 * np.exp(-distance / (2 * length**2))
    if basis == "svd":
        project = svd_basis(tessellation).T
    else:
        project = np.linalg.pinv(nodal_basis(tessellation))
    blocks = project.reshape(len(project), len(centres), -1)  # [p, cells, entries of A_c]
    smoothed = np.einsum("pce,cd->pde", blocks, kernel)
    return smoothed.reshape(len(project), -1) @ project.T


def check_basis(basis: str, tessellation: Tessellation) -> None:
    """Refuses an unknown basis, and the nodal one of volume-preserving velocities.

    Raises:
        ValueError: in these cases.
    """
    if basis not in ("nodal", "svd"):
        raise ValueError(f"basis {basis!r} is unknown: use 'nodal' or 'svd'")
    if basis == "nodal" and tessellation.volume_preserving:
        raise ValueError(
            f"basis 'nodal' of {tessellation}: volume-preserving velocities have no nodal basis, "
            "use basis='svd'"
        )


@functools.cache
def _geometry(cells):
    """Vertices ``[v, d]`` and cells ``[c, d + 1]``."""
    axes = len(cells)
    found: dict[tuple[float, ...], int] = {}
    parts = {1: (((0,), (1,)),), 2: _TRIANGLES, 3: _TETRAHEDRA}[axes]
    rows = []
    for box in itertools.product(*map(range, cells)):
        for part in parts:
            row = []
            for corner in part:
                if axes == 3 and sum(box) % 2:
                    corner = (1 - corner[0], *corner[1:])
                place = tuple(b + c for b, c in zip(box, corner))
                row.append(found.setdefault(place, len(found)))
            rows.append(row)
    return np.asarray(list(found), float) / np.asarray(cells), np.asarray(rows)
