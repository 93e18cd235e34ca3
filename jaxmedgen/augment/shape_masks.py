"""Augmentation of aligned binary shapes, a channel a phase or organ.

The list of the reference implementation of Biffi et al., IEEE TMI 39(6), 2020
(UK-Digital-Heart-Project/lvae_mlp), where it is switched off: shear in one plane, rotation and
scale across the long axis, one angle about both other axes, closing. All channels of a sample move
together: end diastole and end systole are one heart. The maps are composed into one linear
resampling that is cut at 1/2, where the reference resamples three times.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from jaxmedgen.ops.affine import affine_coordinates, affine_matrix
from jaxmedgen.ops.morphology import dilate, erode
from jaxmedgen.ops.resample import resample


@dataclasses.dataclass(frozen=True)
class ShapeAugmentation:
    """Random maps of shapes whose long axis is the first array axis.

    Attributes:
        shear: standard deviation of the shear in one plane, drawn evenly.
        rotation: standard deviations in degrees: across the long axis; about both other axes,
            which turn by the same angle.
        scale: standard deviation of the factor across the long axis, whose mean is 1.
        scale_limits: least and largest factor.
        closing: probability of a binary closing by a cube of two voxels.
    """

    shear: float | int = 0.05
    rotation: tuple[float | int, float | int] = (9.0, 6.0)
    scale: float | int = 0.01
    scale_limits: tuple[float | int, float | int] = (0.95, 1.05)
    closing: float | int = 0.5

    def __post_init__(self) -> None:
        if min(self.shear, self.scale, *self.rotation) < 0:
            raise ValueError(
                f"shear={self.shear}, scale={self.scale}, rotation={self.rotation}: standard "
                "deviations are 0 or more"
            )
        if not 0 < self.scale_limits[0] <= 1 <= self.scale_limits[1]:
            raise ValueError(f"scale_limits={self.scale_limits}: give a range around 1")
        if not 0 <= self.closing <= 1:
            raise ValueError(f"closing={self.closing} is no probability: use 0 to 1")

    def __call__(
        self, keys: Key[Array, " b"], image: Float[Array, " b *s c"]
    ) -> Float[Array, " b *s c"]:
        """Moved and perhaps closed masks in {0, 1}, one draw a sample."""
        parts = jax.vmap(lambda key: jax.random.split(key))(keys)
        shape = image.shape[1:-1]
        points = affine_coordinates(self.matrices(parts[:, 0], len(shape)), shape)
        moved = resample(image, points, mode="constant") > 0.5
        on = jax.vmap(lambda key: jax.random.bernoulli(key, self.closing))(parts[:, 1])
        on = on.reshape(-1, *(1,) * (image.ndim - 1))
        return jnp.where(on, close_by_cube(moved), moved).astype(image.dtype)

    def matrices(self, keys: Key[Array, " b"], axes: int) -> Float[Array, " b m m"]:
        """Sampling maps of two or three axes, see `ops.affine`."""

        def one(key):
            planes = axes * (axes - 1) // 2
            plane, normal = jax.random.split(key)
            chosen = jax.random.randint(plane, (), 0, planes)
            shear, across, along, scale = jax.random.normal(normal, (4,))
            across, along = (
                jnp.deg2rad(degrees * x) for degrees, x in zip(self.rotation, (across, along))
            )
            angles = jnp.stack([across, along, along]) if axes == 3 else across[None]
            factor = jnp.clip(1 + self.scale * scale, *self.scale_limits)
            factors = jnp.full((axes,), factor).at[0].set(1.0 if axes == 3 else factor)
            # Sampling with 1/factor enlarges by factor.
            return angles, 1 / factors, self.shear * shear * jax.nn.one_hot(chosen, planes)

        return affine_matrix(*jax.vmap(one)(keys))


def close_by_cube(mask: Bool[Array, " b *s c"], size: int = 2) -> Bool[Array, " b *s c"]:
    """Binary closing of each channel by a cube (square) of `size` voxels.

    Beyond the border counts as background while growing and as mask while shrinking.
    """
    flat = jnp.moveaxis(mask, -1, 1).reshape(-1, *mask.shape[1:-1])
    cube = np.ones((size,) * (flat.ndim - 1), bool)
    grown = dilate(flat, element=cube)
    # A cube of even size has no middle voxel: the erosion takes its mirror image.
    axes = tuple(range(1, flat.ndim))
    closed = jnp.flip(erode(jnp.flip(grown, axes), element=cube), axes)
    closed = closed.reshape(mask.shape[0], mask.shape[-1], *mask.shape[1:-1])
    return jnp.moveaxis(closed, 1, -1)
