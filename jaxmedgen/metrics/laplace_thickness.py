"""Thickness of a wall between two regions along the field lines of Laplace's equation.

``u`` is 0 inside, 1 outside and harmonic in the wall; the thickness at a voxel is the length of the
line of ``grad u`` through it. Unlike the distance to the nearest point of the other surface it is
the same from both sides. Yezzi & Prince, "An Eulerian PDE approach for computing tissue thickness",
IEEE TMI 22(10), 2003.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float
from scipy.sparse.linalg import spsolve

INSIDE, WALL, OUTSIDE, OPEN = 0, 1, 2, 3
_SHIFTS = tuple((axis, side) for axis in range(3) for side in (-1, 1))


def laplace_thickness(
    wall: Bool[np.ndarray, "d h w"],
    inside: Bool[np.ndarray, "d h w"],
    spacing: Sequence[float | int],
    open_end: Bool[np.ndarray, "d h w"] | None = None,
) -> Float[np.ndarray, "d h w"]:
    """Thickness in mm at every voxel of the wall, NaN elsewhere.

    Lengths are counted from voxel faces, so a wall of n voxels is n voxels thick.

    Args:
        wall: the wall.
        inside: what it encloses; all other voxels are outside.
        spacing: mm along every axis.
        open_end: voxels across which nothing flows (beyond the cut end of a wall).

    Raises:
        ValueError: an empty wall, or one that touches no inside or no outside.
    """
    region = np.where(wall, WALL, np.where(inside, INSIDE, OUTSIDE))
    if open_end is not None:
        region = np.where(open_end & ~wall & ~inside, OPEN, region)
    region = np.pad(region, 1, constant_values=OUTSIDE)
    cells = np.argwhere(region == WALL)
    number = np.full(region.shape, -1)
    number[tuple(cells.T)] = np.arange(len(cells))
    near = [_neighbours(cells, region, number, *shift) for shift in _SHIFTS]
    touched = {kind: any((r == kind).any() for r, _ in near) for kind in (INSIDE, OUTSIDE)}
    if not len(cells) or not all(touched.values()):
        raise ValueError(
            f"a wall of {len(cells)} voxels that does not part an inside from an outside has no "
            "thickness"
        )
    step = np.asarray(spacing, np.float64)
    u = _harmonic(near, step, len(cells))
    gradient = np.stack([_slope(near, u, axis, step[axis]) for axis in range(3)], -1)
    length = np.linalg.norm(gradient, axis=-1, keepdims=True)
    tangent = gradient / np.maximum(length, 1e-12)
    total = sum(_arrival(near, sign * tangent, step, kind)
                for sign, kind in ((1, INSIDE), (-1, OUTSIDE)))  # fmt: skip
    thickness = np.full(region.shape, np.nan)
    thickness[tuple(cells.T)] = total
    return thickness[1:-1, 1:-1, 1:-1]


def _neighbours(cells, region, number, axis, side):
    """Region and number of each cell's neighbour."""
    place = cells.copy()
    place[:, axis] += side
    index = tuple(place.T)
    return region[index], number[index]


def _harmonic(near, step, count):
    """Solution of Laplace's equation by the seven-point stencil."""
    diagonal, right, entries = np.zeros(count), np.zeros(count), []
    for (kind, index), (axis, _) in zip(near, _SHIFTS):
        weight = np.where(kind == OPEN, 0.0, 1 / step[axis] ** 2)
        diagonal += weight
        right += weight * (kind == OUTSIDE)
        entries.append((kind == WALL, index, -weight))
    return spsolve(_matrix(diagonal, entries), right)


def _slope(near, u, axis, step):
    """Central difference; a closed side has the cell's own value."""
    values = []
    for (kind, index), (direction, _) in zip(near, _SHIFTS):
        if direction == axis:
            known = np.where(kind == WALL, u[np.maximum(index, 0)], u)
            values.append(np.select([kind == INSIDE, kind == OUTSIDE], [0.0, 1.0], known))
    return (values[1] - values[0]) / (2 * step)


def _arrival(near, tangent, step, source):
    """Length of the lines from a boundary, first-order upwind: ``tangent . grad L = 1``."""
    count = len(tangent)
    diagonal, right, entries = np.zeros(count), np.ones(count), []
    for (kind, index), (axis, side) in zip(near, _SHIFTS):
        # The line comes from the neighbour that the tangent points away from.
        flow = np.maximum(-side * tangent[:, axis], 0) / step[axis]
        flow = np.where((kind == WALL) | (kind == source), flow, 0.0)
        diagonal += flow
        # The boundary is a face, half a voxel before the neighbour's centre is left behind.
        right += np.where(kind == source, -0.5 * step[axis] * flow, 0.0)
        entries.append((kind == WALL, index, -flow))
    stuck = diagonal < 1e-9
    right = np.where(stuck, 0.0, right)
    return spsolve(_matrix(np.where(stuck, 1.0, diagonal), entries), right)


def _matrix(diagonal, entries):
    rows = np.arange(len(diagonal))
    matrix = scipy.sparse.diags(diagonal).tocsr()
    for inner, index, value in entries:
        shape = (len(rows), len(rows))
        matrix = matrix + scipy.sparse.csr_matrix(
            (value[inner], (rows[inner], index[inner])), shape
        )
    return matrix.tocsc()
