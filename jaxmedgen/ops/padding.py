"""Images continued over their borders by reflection."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Shaped


def mirrored(
    x: Shaped[Array, "b *s c"], pads: Sequence[tuple[int, int]]
) -> Shaped[Array, "b *s2 c"]:
    """`x` reflected about its outermost voxels, which are not repeated.

    The same as ``jnp.pad(mode="reflect")`` in half the operations: compiling a training step takes
    as long as it has operations.

    Args:
        x: images.
        pads: voxels added (before, after) on each axis of space.

    Raises:
        ValueError: more voxels than the axis has beside the outermost one.
    """
    for axis, (before, after) in enumerate(pads, start=1):
        size = x.shape[axis]
        if max(before, after) >= size:
            raise ValueError(f"mirrored: {size} voxels cannot be continued by {(before, after)}")
        left = lax.slice_in_dim(x, 1, 1 + before, axis=axis)
        right = lax.slice_in_dim(x, size - 1 - after, size - 1, axis=axis)
        parts = [jnp.flip(left, axis)] * (before > 0) + [x] + [jnp.flip(right, axis)] * (after > 0)
        x = jnp.concatenate(parts, axis) if len(parts) > 1 else x
    return x
