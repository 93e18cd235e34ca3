"""Augmentation of planes that are not registered to their volume.

The volume gets one random affine map; every plane an in-plane rotation and translation of its own.
One motion for all would register them and give away where the planes lie. Only the anisotropic
scaling, which changes the subject itself, is common: each plane is scaled along the axes that it
shows.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxmedgen.ops.affine import affine_coordinates, affine_matrix
from jaxmedgen.ops.resample import resample, resample_labels


@dataclasses.dataclass(frozen=True)
class PlaneAugmentation:
    """Random maps of a volume and its planes.

    Attributes:
        view_axes: the volume's axes that each view shows.
        scale: the factors' range, an axis each, the subject's own axes.
        rotation: largest angle in degrees, about each axis of the volume and in each plane.
        translation: largest shift, a part of the field of view.
    """

    view_axes: Sequence[tuple[int, int]]
    scale: tuple[float | int, float | int] = (0.9, 1.1)
    rotation: float | int = 10.0
    translation: float | int = 7 / 96

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale={self.scale}: give a positive range, low to high")
        if self.rotation < 0 or not 0 <= self.translation < 0.5:
            raise ValueError(
                f"rotation={self.rotation} degrees, translation={self.translation}: give 0 or "
                "more, translation below 0.5"
            )

    def __call__(
        self,
        keys: Key[Array, " b"],
        planes: Float[Array, " b h w v"],
        label: Int[Array, " b x y z"],
    ) -> tuple[Float[Array, " b h w v"], Int[Array, " b x y z"]]:
        """Moved planes (linear, 0 outside) and volumes (nearest)."""
        matrices = self.matrices(keys)
        moved = [
            resample(
                planes[..., view : view + 1],
                affine_coordinates(matrix, planes.shape[1:3], self._spacing(planes.shape[1:3])),
                mode="constant",
            )
            for view, matrix in enumerate(matrices[1])
        ]
        coordinates = affine_coordinates(
            matrices[0], label.shape[1:], self._spacing(label.shape[1:])
        )
        return jnp.concatenate(moved, -1), resample_labels(label, coordinates)

    def matrices(
        self, keys: Key[Array, " b"]
    ) -> tuple[Float[Array, " b 4 4"], tuple[Float[Array, " b 3 3"], ...]]:
        """Sampling maps of the volumes and of every view, in parts of the field of view."""
        low, high = self.scale
        views = len(self.view_axes)

        def draw(key):
            parts = jax.random.split(key, 3)
            factor = jax.random.uniform(parts[0], (3,), minval=low, maxval=high)
            angles = jax.random.uniform(parts[1], (3 + views,), minval=-1, maxval=1)
            shifts = jax.random.uniform(parts[2], (3 + 2 * views,), minval=-1, maxval=1)
            return 1 / factor, jnp.deg2rad(self.rotation) * angles, self.translation * shifts

        inverse, angles, shifts = jax.vmap(draw)(keys)
        volume = _scaled(inverse, angles[:, :3], shifts[:, :3])
        planes = tuple(
            _scaled(
                inverse[:, jnp.asarray(axes)],
                angles[:, 3 + view : 4 + view],
                shifts[:, 3 + 2 * view : 5 + 2 * view],
            )
            for view, axes in enumerate(self.view_axes)
        )
        return volume, planes

    @staticmethod
    def _spacing(shape):
        return tuple(1 / size for size in shape)


def _scaled(inverse, angles, shifts):
    """The subject is scaled along its own axes, then turned and shifted."""
    rigid = affine_matrix(angles, jnp.ones_like(inverse), translation=shifts)
    rows = jnp.concatenate([inverse, jnp.ones_like(inverse[:, :1])], -1)
    return rows[:, :, None] * rigid
