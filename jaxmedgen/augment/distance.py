"""Exact Euclidean distances in a compiled step.

The squared distance is a lower envelope of parabolas, axis by axis (Felzenszwalb & Huttenlocher
2012); here each axis is a dense minimum over its voxels, ``size^(n + 1)`` operations in all.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_FAR = 1e9


def signed_distance(
    mask: Bool[Array, " b *s"], spacing: Sequence[float | int]
) -> Float[Array, " b *s"]:
    """Distance to the mask's border in mm, negative inside.

    Outside: to the nearest voxel centre of the mask; inside: to the nearest one that is not in it
    (scipy's ``distance_transform_edt`` of either side). Without any voxel inside (outside) the
    result is very large (small).
    """
    outside = _squared_distance(mask, spacing)
    inside = _squared_distance(~mask, spacing)
    return jnp.sqrt(outside) - jnp.sqrt(inside)


def _squared_distance(mask, spacing):
    value = jnp.where(mask, 0.0, _FAR)
    for axis, width in enumerate(spacing, start=1):
        value = jnp.moveaxis(value, axis, -1)
        grid = jnp.arange(value.shape[-1], dtype=value.dtype) * width

        def nearest(at, value=value, grid=grid):
            return jnp.min(value + (grid - at) ** 2, axis=-1)

        # One output plane at a time: the dense table would be a volume for every voxel of an axis.
        value = jnp.moveaxis(jax.lax.map(nearest, grid), 0, axis)
    return value
