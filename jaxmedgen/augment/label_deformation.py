"""Elastic deformation and rotation of label maps alone: new anatomy for a label-to-image generator.

A coarse grid of control points is displaced by ``U(-d, d)`` along every axis, its outer ring held
(``locked_layers``), cubic B-splines in between. Labels are sampled at the nearest voxel (TorchIO's
``RandomElasticDeformation``, Perez-Garcia et al., 2021) or, smoother at borders, by the largest
linear weight of the one-hot map.

The grid folds when control points move by more than their distance allows: with 8 points over
160 mm they are 160 / (8 - 3) = 32 mm apart. TorchIO warns from half of that on, d = 16 mm; no
folding is certain below 1 / 2.046 of it in 2D and 1 / 2.479 in 3D (Choi & Lee, 2000), so d = 14 mm
is safe in slices and d = 20 mm is not. `Elastic.limit` gives the bound.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxmedgen.ops.affine import affine_matrix, transform_coordinates
from jaxmedgen.ops.control_grids import random_bspline_displacement
from jaxmedgen.ops.fields import identity_grid
from jaxmedgen.ops.resample import resample_labels

_INJECTIVE = {2: 2.046392675, 3: 2.479472335}
"""K_2 and K_3 of Choi & Lee."""


@dataclasses.dataclass(frozen=True)
class Elastic:
    """A random elastic deformation of label maps.

    Attributes:
        spacing: voxel size in mm, two or three axes; of three the first is across the slices.
        displacement: least and largest half-width d in slices, in mm, drawn a sample.
        through: the same across slices.
        controls: least and largest number of control points along an axis in slices, drawn a
            sample.
        through_controls: control points across slices.
        locked_layers: outer layers of control points that do not move.
        probability: of a deformation.
        order: 0 nearest sampling, 1 largest linear weight.
        only: class that alone is deformed; the others are pasted back over it in their places. None
            deforms all.
    """

    spacing: tuple[float | int, ...]
    displacement: tuple[float | int, float | int] = (14.0, 14.0)
    through: tuple[float | int, float | int] = (0.0, 1.0)
    controls: tuple[int, int] = (8, 8)
    through_controls: int = 4
    locked_layers: int = 1
    probability: float | int = 1.0
    order: Literal[0, 1] = 0
    only: int | None = None

    def __post_init__(self) -> None:
        if len(self.spacing) not in (2, 3) or min(self.spacing) <= 0:
            raise ValueError(f"spacing {self.spacing}: give two or three positive sizes in mm")
        if not 4 <= self.controls[0] <= self.controls[1] or self.through_controls < 4:
            raise ValueError(
                f"controls {self.controls}, {self.through_controls}: a cubic B-spline needs at "
                "least 4 points on each axis, the smaller number first"
            )
        for name in ("displacement", "through"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"{name} {low, high}: give the least and the largest in mm")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability {self.probability}: give 0 to 1")

    def limit(self, shape: tuple[int, ...]) -> float:
        """Displacement in mm below which no draw folds, for the densest grid; of the in-slice axes.

        Args:
            shape: of the label maps.
        """
        cells = self.controls[1] - 3
        sides = [(n - 1) * s for n, s in zip(shape[-2:], self.spacing[-2:])]
        return min(sides) / cells / _INJECTIVE[len(self.spacing)]

    def fields(self, keys: Key[Array, " b"], shape: tuple[int, ...]) -> Float[Array, " b *s n"]:
        """Displacements in voxels, zero where there is no deformation."""
        low, high = self.controls
        fields = self._fields(keys, shape, low)
        # Shapes are fixed in a compiled program: every grid is evaluated, and one is taken.
        number = jax.vmap(
            lambda key: jax.random.randint(jax.random.fold_in(key, 2), (), low, high + 1)
        )
        chosen = number(keys).reshape(-1, *(1,) * (fields.ndim - 1))
        for count in range(low + 1, high + 1):
            fields = jnp.where(chosen == count, self._fields(keys, shape, count), fields)
        return fields

    def __call__(self, keys: Key[Array, " b"], label: Int[Array, " b *s"]) -> Int[Array, " b *s"]:
        """Deformed label maps, one draw a sample."""
        shape = label.shape[1:]
        coordinates = identity_grid(shape)[None] + self.fields(keys, shape)
        if self.only is None:
            return resample_labels(label, coordinates, order=self.order)
        part = resample_labels((label == self.only).astype(label.dtype), coordinates)
        rest = jnp.where(label == self.only, 0, label)
        return jnp.where((part > 0) & (rest == 0), self.only, rest).astype(label.dtype)

    def _fields(self, keys, shape, controls):
        axes = len(self.spacing)
        draws = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 1), (3,)))(keys)
        (d0, d1), (t0, t1) = self.displacement, self.through
        inside, across = d0 + (d1 - d0) * draws[:, 0], t0 + (t1 - t0) * draws[:, 1]
        amplitude = jnp.stack([*([across] if axes == 3 else []), inside, inside], -1)
        amplitude = jnp.where((draws[:, 2] < self.probability)[:, None], amplitude, 0.0)
        grid = (*((self.through_controls,) if axes == 3 else ()), controls, controls)
        return random_bspline_displacement(
            keys,
            shape,
            self.spacing,
            amplitude=amplitude,
            controls=grid,
            locked_layers=self.locked_layers,
        )


@dataclasses.dataclass(frozen=True)
class Rotation:
    """A random rotation of label maps about their middle, within slices; nearest sampling.

    Attributes:
        spacing: voxel size in mm, two or three axes.
        degrees: largest angle.
        probability: of a rotation.
    """

    spacing: tuple[float | int, ...]
    degrees: float | int = 20.0
    probability: float | int = 0.5

    def __call__(self, keys: Key[Array, " b"], label: Int[Array, " b *s"]) -> Int[Array, " b *s"]:
        """Turned label maps, one draw a sample."""
        draws = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(keys)
        angle = jnp.deg2rad((2 * draws[:, :1] - 1) * self.degrees)
        angle = jnp.where(draws[:, 1:] < self.probability, angle, 0.0)
        return rotate_labels(label, angle[:, 0], self.spacing)


def rotate_labels(
    label: Int[Array, " b *s"],
    radians: Float[Array, " b"],
    spacing: tuple[float | int, ...],
) -> Int[Array, " b *s"]:
    """Label maps turned about their middle, in the plane of the last two axes.

    Args:
        label: the maps.
        radians: one angle a sample.
        spacing: voxel size in mm.
    """
    shape = label.shape[1:]
    axes = len(shape)
    still = jnp.zeros((label.shape[0], axes))
    # About the first axis of three, which is across the slices.
    angles = radians[:, None] if axes == 2 else jnp.pad(radians[:, None], [(0, 0), (0, 2)])
    matrix = affine_matrix(angles, still + 1, jnp.zeros_like(angles), still)
    where = transform_coordinates(matrix, identity_grid(shape)[None], shape, spacing)
    return resample_labels(label, where)
