"""Transformers that bend: CPAB, velocities, geodesics, grids. See `transformers.py`.

Sources: Freifeld et al., "Transformations based on continuous piecewise-affine velocity fields",
2017 (CPAB); Arsigny et al., 2006 (stationary velocities); Vialard et al., 2012 (geodesics).
"""

import abc
import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmedgen.ops.control_grids import bspline_field
from jaxmedgen.ops.cpab import Basis, cpab_transform
from jaxmedgen.ops.cpab_tessellation import Tessellation, largest_speed
from jaxmedgen.ops.fields import exp_velocity, identity_grid, invert
from jaxmedgen.ops.resample import resample
from jaxmedgen.ops.resize import resize
from jaxmedgen.ops.shooting import shoot
from jaxmedgen.ops.sobolev import SobolevMetric
from jaxmedgen.ops.transformers import (
    Affine,
    Composition,
    DecomposedAffine,
    DiffeomorphicAffine,
    Rigid,
    Transformer,
    check_size,
)

_LOCKED = 2  # layers of control points around a geodesic's, which are zero
NAMES = (
    "affine",
    "affine_decomposed",
    "affinediff",
    "rigid",
    "cpab",
    "cpab_free",
    "cpab_volume",
    "svf",
    "geodesic",
    "offsets",
)


@dataclasses.dataclass(frozen=True)
class CPAB(Transformer):
    """Flow of a continuous piecewise-affine velocity; -parameters is the inverse.

    Attributes:
        cells: rectangles or boxes an axis.
        steps: of the integration.
        basis: of the velocities, see `ops.cpab`.
        zero_boundary: keeps the border (points slide along it).
        volume_preserving: keeps volumes; with basis ``svd`` only.
    """

    cells: tuple[int, ...]
    steps: int = 50
    basis: Basis = "nodal"
    zero_boundary: bool = True
    volume_preserving: bool = False

    @property
    def space(self) -> Tessellation:
        """The space of velocities."""
        return Tessellation(self.cells, self.zero_boundary, self.volume_preserving)

    def size(self, shape: Sequence[int]) -> int:
        """Dimension of the velocity space.

        Raises:
            ValueError: cells and shape differ in their number of axes.
        """
        if len(self.cells) != len(shape):
            raise ValueError(f"cells {self.cells} for images of shape {tuple(shape)}: one an axis")
        return self.space.dimension

    def move(self, parameters, points, shape, *, inverse=False):
        """See `Transformer.move`."""
        check_size(self, parameters, shape)
        extent = jnp.asarray([max(n - 1, 1) for n in shape], jnp.float32)
        theta = parameters.astype(jnp.float32) * (-1 if inverse else 1)
        moved = cpab_transform(
            theta, points / extent, self.space, steps=self.steps, basis=self.basis
        )
        return moved * extent

    def reach(self, shape):
        """Half of the image a unit of time, for the vertex that a parameter moves most."""
        del shape
        return 0.5 if self.basis == "nodal" else 0.5 / largest_speed(self.space)

    def ramped(self, parameters, shape, strength):
        """See `Transformer.ramped`."""
        del shape
        return parameters * strength


class _Field(Transformer):
    """Maps that exist on the voxels; elsewhere they are interpolated, outside they go on."""

    @abc.abstractmethod
    def _field(
        self, parameters: Float[Array, " b k"], shape: tuple[int, ...], inverse: bool
    ) -> Float[Array, " b *s n"]:
        """Displacement in voxels."""

    def move(self, parameters, points, shape, *, inverse=False):
        """See `Transformer.move`."""
        check_size(self, parameters, shape)
        field = self._field(parameters.astype(jnp.float32), tuple(shape), inverse)
        points = jnp.broadcast_to(points, (field.shape[0], *points.shape[1:]))
        return points + resample(field, points)

    def coordinates(self, parameters, shape, *, inverse=False):
        """See `Transformer.coordinates`."""
        check_size(self, parameters, shape)
        field = self._field(parameters.astype(jnp.float32), tuple(shape), inverse)
        return identity_grid(shape) + field

    def ramped(self, parameters, shape, strength):
        """See `Transformer.ramped`."""
        del shape
        return parameters * strength

    def reach(self, shape):
        """A quarter of the shortest axis, in voxels."""
        return min(shape) / 4


@dataclasses.dataclass(frozen=True)
class StationaryVelocity(_Field):
    """Flow of a stationary velocity on a grid of cubic B-spline control points.

    -parameters is the inverse. Parameters are velocities in voxels, components innermost.

    Attributes:
        grid: control points an axis.
        squarings: of the exponential; None adapts them.
    """

    grid: tuple[int, ...]
    squarings: int | None = 7

    def size(self, shape: Sequence[int]) -> int:
        """Control points times axes."""
        return _count(self.grid, shape)

    def velocity(self, parameters, shape):
        """See `Transformer.velocity`."""
        return bspline_field(parameters.reshape(-1, *self.grid, len(shape)), shape)

    def _field(self, parameters, shape, inverse):
        v = self.velocity(-parameters if inverse else parameters, shape)
        return exp_velocity(v, steps=self.squarings)


@dataclasses.dataclass(frozen=True)
class Geodesic(_Field):
    """End of a geodesic of diffeomorphisms from an initial velocity on a control grid.

    The velocity is zero at the border, as EPDiff is solved on a periodic grid. The inverse is the
    other of the two maps that shooting gives, not the map of -parameters.

    Attributes:
        grid: control points an axis.
        alpha: of the metric ``(1 - alpha Laplacian)^3``, squared voxels.
        steps: of the integration.
    """

    grid: tuple[int, ...]
    alpha: float | int = 3.0
    steps: int = 8

    def size(self, shape: Sequence[int]) -> int:
        """Control points times axes."""
        return _count(self.grid, shape)

    def velocity(self, parameters, shape):
        """The initial velocity; see `Transformer.velocity`."""
        control = parameters.reshape(-1, *self.grid, len(shape))
        padded = jnp.pad(control, [(0, 0), *((_LOCKED, _LOCKED),) * len(shape), (0, 0)])
        return bspline_field(padded, shape)

    def pair(self, parameters, shape):
        """See `Transformer.pair`; one integration gives both."""
        check_size(self, parameters, shape)
        shot = self._shoot(parameters.astype(jnp.float32), shape, ("inverse", "forward"))
        grid = identity_grid(shape)
        return grid + shot.inverse, grid + shot.forward

    def _field(self, parameters, shape, inverse):
        name = "forward" if inverse else "inverse"
        return getattr(self._shoot(parameters, shape, (name,)), name)

    def _shoot(self, parameters, shape, maps):
        metric = SobolevMetric(alpha=self.alpha)
        return shoot(self.velocity(parameters, shape), metric, steps=self.steps, maps=maps)


@dataclasses.dataclass(frozen=True)
class IntegratedOffsets(_Field):
    """Positions that add up positive offsets along each axis: the deforming autoencoder's grid.

    Offset ``exp(raw)`` of each cell and axis, linear between cells; a line's offsets are scaled to
    its length, so that it stays in order and its ends stay fixed. The inverse is found numerically
    (`fields.invert`). Maps may still fold, since axes are integrated independently.

    Source: Shu et al., "Deforming autoencoders", 2018, section 3.2.

    Attributes:
        grid: cells an axis.
    """

    grid: tuple[int, ...]

    def size(self, shape: Sequence[int]) -> int:
        """Cells times axes."""
        return _count(self.grid, shape)

    def reach(self, shape):
        """Offsets between exp(-2) and exp(2) of a voxel."""
        del shape
        return 2.0

    def _field(self, parameters, shape, inverse):
        axes = len(shape)
        raw = resize(parameters.reshape(-1, *self.grid, axes), shape, order=1)
        moved = []
        for axis, size in enumerate(shape):
            steps = jnp.exp(jnp.moveaxis(raw[..., axis], axis + 1, -1)[..., 1:])
            steps = steps * ((size - 1) / jnp.sum(steps, -1, keepdims=True))
            position = jnp.pad(jnp.cumsum(steps, -1), [(0, 0)] * axes + [(1, 0)])
            moved.append(jnp.moveaxis(position, -1, axis + 1))
        field = jnp.stack(moved, -1) - identity_grid(shape)
        return invert(field) if inverse else field


def transformer(
    name: str,
    axes: int,
    *,
    grid: int = 8,
    cells: Sequence[int] = (),
    steps: int | None = None,
) -> Transformer:
    """A transformer by its name, or a composition of several.

    Args:
        name: one of `NAMES`, or several joined by ``+``: the first is the outermost map.
            ``cpab_free`` moves the border, too, ``cpab_volume`` keeps volumes.
        axes: 2 or 3.
        grid: control points an axis, for ``svf``, ``geodesic`` and ``offsets``.
        cells: of ``cpab..``; by default 2 x 4 in 2D (Detlefsen & Hauberg), 2 x 2 x 2 in 3D.
        steps: squarings of ``svf`` (7), time steps of ``geodesic`` (8) and ``cpab`` (50).

    Raises:
        ValueError: an unknown name.
    """
    parts: list[Transformer] = []
    for part in name.split("+"):
        if part not in NAMES:
            raise ValueError(f"transformer '{part}' is unknown: choose from {', '.join(NAMES)}")
        if part.startswith("cpab"):
            chosen = tuple(cells) or ((2, 4) if axes == 2 else (2,) * axes)
            free, volume = part == "cpab_free", part == "cpab_volume"
            basis: Basis = "svd" if volume else "nodal"  # the nodal one does not keep volumes
            parts.append(CPAB(chosen, steps or 50, basis, not free, volume))
        elif part == "svf":
            parts.append(StationaryVelocity((grid,) * axes, 7 if steps is None else steps))
        elif part == "offsets":
            parts.append(IntegratedOffsets((grid,) * axes))
        elif part == "geodesic":
            parts.append(Geodesic((grid,) * axes, steps=steps or 8))
        else:
            parts.append(
                {
                    "affine": Affine,
                    "affine_decomposed": DecomposedAffine,
                    "affinediff": DiffeomorphicAffine,
                    "rigid": Rigid,
                }[part]()
            )
    whole = parts[-1]
    for outer in reversed(parts[:-1]):
        whole = Composition(outer, whole)
    return whole


def _count(grid: tuple[int, ...], shape: Sequence[int]) -> int:
    if len(grid) != len(shape) or min(grid) < 4:
        raise ValueError(
            f"control grid {grid} for images of shape {tuple(shape)}: at least 4 points an axis"
        )
    return int(np.prod(grid)) * len(shape)
