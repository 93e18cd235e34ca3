"""Finite groups of rotations and reflections that map a voxel grid onto itself.

A group is an ordered set of signed permutation matrices in array-axis order, identity first, acting
about the centre ``(N - 1) / 2`` of the grid, so that every element moves voxels onto voxels and
nothing is interpolated. Orders and generators follow Cohen & Welling, "Group equivariant
convolutional networks", 2016 (2D: p4, p4m); Winkels & Cohen, "3D G-CNNs for pulmonary nodule
detection", 2018 (D4, D4h, O, Oh); Worrall & Brostow, "CubeNet", 2018 (V, T, O).
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

_LARGEST = {2: 8, 3: 48}  # all signed permutation matrices
_AXIAL = ("C2", "C4", "D4", "C4h", "C4v", "D4h")
NAMES = ("trivial", *_AXIAL, "V", "T", "Th", "O", "Oh", "p1", "p2", "p4", "p4m")


@dataclasses.dataclass(frozen=True)
class Group:
    """An ordered finite group of signed permutation matrices; equal if its elements are.

    Attributes:
        name: what messages call it.
        elements: the matrices as nested tuples, identity first.
        generators: indices of elements that generate the others.
    """

    name: str = dataclasses.field(compare=False)
    elements: tuple[tuple[tuple[int, ...], ...], ...]
    generators: tuple[int, ...] = dataclasses.field(compare=False)

    @property
    def order(self) -> int:
        """Number of elements ``|G|``."""
        return len(self.elements)

    @property
    def dim(self) -> int:
        """Axes of space, 2 or 3."""
        return len(self.elements[0])

    @functools.cached_property
    def matrices(self) -> Int[np.ndarray, "g n n"]:
        """The elements as integer matrices; ``matrices[g] @ v`` moves a centred coordinate."""
        return np.array(self.elements)

    @functools.cached_property
    def cayley(self) -> Int[np.ndarray, "g g"]:
        """``cayley[i, j]`` is the index of the product ``i j`` (first `j`, then `i`)."""
        where = {element: i for i, element in enumerate(self.elements)}
        return np.array([[where[_key(a @ b)] for b in self.matrices] for a in self.matrices])

    @functools.cached_property
    def inverses(self) -> Int[np.ndarray, " g"]:
        """Index of the inverse of every element."""
        return np.argmin(self.cayley, axis=1)

    @functools.cached_property
    def determinants(self) -> Int[np.ndarray, " g"]:
        """+1 for rotations, -1 for reflections and inversions."""
        return np.rint(np.linalg.det(self.matrices)).astype(int)


def point_group(
    name: str, *, axis: int = -1, spacing: Sequence[float | int] | None = None
) -> Group:
    """The group of a name.

    | name | elements | order |
    |---|---|---|
    | ``trivial`` | identity | 1 |
    | ``C2``, ``C4`` | half, quarter turns about `axis` | 2, 4 |
    | ``V`` | half turns about the three axes | 4 |
    | ``D4`` | C4 and half turns about axes in its plane | 8 |
    | ``C4h``, ``C4v`` | C4 with the mirror across, the mirrors along `axis` | 8 |
    | ``D4h`` | D4 and inversion | 16 |
    | ``T``, ``O`` | rotations of the tetrahedron, of the cube | 12, 24 |
    | ``Th``, ``Oh`` | these and inversion | 24, 48 |
    | ``p1``, ``p2``, ``p4``, ``p4m`` | 2D: identity, half turn, quarter turns, with mirrors | 1-8 |

    Args:
        name: one of the table.
        axis: array axis that C2, C4, D4, C4h, C4v and D4h turn about; the quarter turn takes the
            second of the other two axes to minus the first. The other groups have no such axis.
        spacing: voxel size; where given, it is checked that the group keeps it.

    Returns:
        The group, its elements in the order in which words of growing length reach them.

    Raises:
        ValueError: unknown name or axis, or a spacing that the group does not keep.
    """
    if name not in NAMES:
        raise ValueError(f"name {name!r} is no group: choose one of {', '.join(NAMES)}")
    if not -3 <= axis < 3:
        raise ValueError(f"axis {axis} must be one of the three array axes, -3 to 2")
    group = _named(name, axis % 3)
    if spacing is not None:
        check_spacing(group, spacing)
    return group


@functools.cache
def _named(name: str, axis: int) -> Group:
    if name in ("p1", "p2", "p4", "p4m"):
        turn, mirror = np.array([[0, -1], [1, 0]]), np.diag([1, -1])
        words = {"p1": [], "p2": [turn @ turn], "p4": [turn], "p4m": [turn, mirror]}
        return generate(words[name], dim=2, name=name)
    i, j = (a for a in range(3) if a != axis)
    turn = np.eye(3, dtype=int)
    turn[[i, j, i, j], [i, j, j, i]] = 0, 0, -1, 1
    flip = np.diag([1 if a == i else -1 for a in range(3)])  # half turn about axis i
    mirror = np.diag([-1 if a == i else 1 for a in range(3)])
    cycle, half = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]]), np.diag([1, -1, -1])
    quarter = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    inversion = -np.eye(3, dtype=int)
    words = {
        "trivial": [],
        "C2": [turn @ turn],
        "C4": [turn],
        "V": [half, np.diag([-1, 1, -1])],
        "D4": [turn, flip],
        "C4h": [turn, inversion],
        "C4v": [turn, mirror],
        "D4h": [turn, flip, inversion],
        "T": [cycle, half],
        "Th": [cycle, half, inversion],
        "O": [cycle, quarter],
        "Oh": [cycle, quarter, inversion],
    }
    about = f" about axis {axis}" if name in _AXIAL else ""
    return generate(words[name], dim=3, name=name + about)


def generate(generators: Sequence[np.ndarray], *, dim: int, name: str = "group") -> Group:
    """The group of all products of some signed permutation matrices.

    Args:
        generators: integer matrices ``[dim, dim]``; none gives the trivial group.
        dim: axes of space, 2 or 3.
        name: what messages call it.

    Raises:
        ValueError: a generator is no signed permutation matrix.
    """
    if dim not in _LARGEST:
        raise ValueError(f"dim {dim} must be 2 or 3")
    for matrix in map(np.asarray, generators):
        if matrix.shape != (dim, dim) or not np.array_equal(matrix @ matrix.T, np.eye(dim)):
            raise ValueError(
                f"generators: {matrix.tolist()} must be {dim} x {dim} with one +1 or -1 in every "
                "row and column; other matrices do not map voxels onto voxels"
            )
    elements = [_key(np.eye(dim, dtype=int))]
    for element in elements:  # grows while it is walked through
        for generator in generators:
            product = _key(np.asarray(generator) @ np.array(element))
            if product not in elements:
                elements.append(product)
    return Group(name, tuple(elements), tuple(elements.index(_key(g)) for g in generators))


def check_spacing(group: Group, spacing: Sequence[float | int]) -> None:
    """Raises ValueError unless the group maps only axes of equal voxel size onto each other.

    A quarter turn between axes of different spacing would change shapes in mm.

    Args:
        group: the group.
        spacing: voxel size an axis.
    """
    if len(spacing) != group.dim or min(spacing) <= 0:
        raise ValueError(f"spacing {tuple(spacing)} must be {group.dim} positive numbers")
    for i, j in np.argwhere(np.any(group.matrices != 0, axis=0)):
        if not np.isclose(spacing[i], spacing[j], rtol=1e-3):
            raise ValueError(
                f"spacing {tuple(spacing)}: {group.name} maps axis {j} onto axis {i}, whose voxels "
                "differ in size; take V, or C4, D4, D4h about the axis that is unlike the others, "
                "or resample"
            )


def subgroup_indices(group: Group, subgroup: Group) -> Int[np.ndarray, " h"]:
    """Indices in `group` of the elements of `subgroup`, in the subgroup's order.

    Raises:
        ValueError: if an element is missing.
    """
    where = {element: i for i, element in enumerate(group.elements)}
    if not all(element in where for element in subgroup.elements):
        raise ValueError(f"subgroup {subgroup.name} is not contained in {group.name}")
    return np.array([where[element] for element in subgroup.elements])


def left_cosets(group: Group, subgroup: Group) -> Int[np.ndarray, "r h"]:
    """The cosets ``gH``, one a row, the subgroup itself first; column `h` holds ``g_r h``."""
    return _cosets(group.cayley, subgroup_indices(group, subgroup))


def right_cosets(group: Group, subgroup: Group) -> Int[np.ndarray, "r h"]:
    """The cosets ``Hg``, one a row, the subgroup itself first; column `h` holds ``h g_r``."""
    return _cosets(group.cayley.T, subgroup_indices(group, subgroup))


def coset_action(group: Group, subgroup: Group) -> Int[np.ndarray, "g r"]:
    """``action[g, r]`` is the row of `left_cosets` that `g` moves row `r` onto."""
    cosets = left_cosets(group, subgroup)
    row = np.empty(group.order, int)
    row[cosets] = np.arange(len(cosets))[:, None]
    return row[group.cayley[:, cosets[:, 0]]]


def act_on_image(
    x: Shaped[Array, " b *s c"], matrix: Int[np.ndarray, "n n"]
) -> Shaped[Array, " b *s2 c"]:
    """``(L_g f)(x) = f(g^-1 x)`` about the grid's centre, by transposing and reversing axes.

    Args:
        x: images or label maps with channels that the element does not mix.
        matrix: one of `Group.matrices`.

    Returns:
        The moved images; quarter turns exchange the sizes of the axes.
    """
    n = x.ndim - 2
    if matrix.shape != (n, n):
        raise ValueError(f"matrix {matrix.shape} must be {n} x {n} for images {x.shape}")
    source = np.argmax(np.abs(matrix), axis=1)  # output axis a shows input axis source[a]
    sign = matrix[np.arange(n), source]
    moved = jnp.transpose(x, (0, *(1 + source), n + 1))
    return jnp.flip(moved, tuple(1 + np.flatnonzero(sign < 0)))


def act_on_field(
    x: Float[Array, " b *s k c"],
    group: Group,
    element: int,
    action: Int[np.ndarray, "g k"] | None = None,
) -> Float[Array, " b *s2 k c"]:
    """``(L_g f)(x, k) = f(g^-1 x, g^-1 k)`` on a field whose second last axis `g` permutes.

    Args:
        x: field; for a regular field `k` runs over the group.
        group: the group.
        element: index of ``g``.
        action: ``action[g, k]`` is where `g` moves `k`; the Cayley table by default (a regular
            field), or `coset_action` for a field on cosets.
    """
    action = group.cayley if action is None else action
    channels = x.reshape(*x.shape[:-2], -1)
    moved = act_on_image(channels, group.matrices[element])
    moved = moved.reshape(*moved.shape[:-1], *x.shape[-2:])
    return jnp.take(moved, action[group.inverses[element]], axis=-2)


def _cosets(table, members):
    rows, seen = [], set()
    for representative in range(len(table)):
        if representative not in seen:
            rows.append(table[representative, members])
            seen.update(rows[-1].tolist())
    return np.stack(rows)


def _key(matrix: np.ndarray) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(v) for v in row) for row in matrix)
