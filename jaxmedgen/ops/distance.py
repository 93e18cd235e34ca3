"""Exact Euclidean distance transforms on the device.

Source: Felzenszwalb, Huttenlocher, "Distance transforms of sampled functions", 2012 (squared
distances are separable: one lower envelope of parabolas an axis). The envelope is taken here by
comparing shifted copies, which has no sequential part; shifts stop at the largest distance found.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxmedgen.ops.filters import check_spacing

_FAR = 1e9


def distance_transform(
    mask: Bool[Array, " b *s"], *, spacing: Sequence[float | int] | None = None
) -> Float[Array, " b *s"]:
    """Distance of every voxel of the mask to the nearest voxel outside of it; 0 outside.

    Voxel centre to voxel centre, as `scipy.ndimage.distance_transform_edt`. Costs two comparisons a
    voxel, axis and step of distance: proportional to the depth of the thickest object, and at most
    to the axis. Space beyond the image counts as neither; a mask that fills it is infinitely deep.

    Args:
        mask: true where distance is wanted, 2D or 3D.
        spacing: voxel size, for distances in mm; without it they are in voxels.

    Raises:
        ValueError: if a spacing is not positive or not one an axis.
    """
    axes = mask.ndim - 1
    steps = (1.0,) * axes if spacing is None else check_spacing(spacing, axes)
    squared = jnp.where(mask, jnp.inf, jnp.zeros(()))
    for axis, step in enumerate(steps, 1):
        squared = _envelope(squared, axis, step)
    return jnp.sqrt(squared)


def signed_distance(
    mask: Bool[Array, " b *s"], *, spacing: Sequence[float | int] | None = None
) -> Float[Array, " b *s"]:
    """Distance to the mask's border, negative inside; arguments as in `distance_transform`.

    Outside: to the nearest voxel centre of the mask; inside: to the nearest one that is not in it.
    Where one of the two does not exist the distance is 1e9, so that products stay finite.
    """
    outside = distance_transform(~mask, spacing=spacing)
    inside = distance_transform(mask, spacing=spacing)
    return jnp.minimum(outside, _FAR) - jnp.minimum(inside, _FAR)


def _envelope(squared, axis, step):
    """``min_j squared[j] + step^2 (i - j)^2`` along an axis."""
    size = squared.shape[axis]
    pads = [(size, size) if d == axis else (0, 0) for d in range(squared.ndim)]
    padded = jnp.pad(squared, pads, constant_values=jnp.inf)

    def improves(state):
        # No parabola further off than the largest value can still lower one.
        shift, out = state
        return (shift < size) & ((step * shift) ** 2 < jnp.max(out))

    def compare(state):
        shift, out = state
        before = jax.lax.dynamic_slice_in_dim(padded, size - shift, size, axis)
        after = jax.lax.dynamic_slice_in_dim(padded, size + shift, size, axis)
        return shift + 1, jnp.minimum(out, jnp.minimum(before, after) + (step * shift) ** 2)

    return jax.lax.while_loop(improves, compare, (jnp.int32(1), squared))[1]
