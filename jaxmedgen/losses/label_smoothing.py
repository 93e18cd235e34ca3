"""Soft labels from hard ones, by smoothing in space."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int


def smooth_labels(
    label: Int[Array, " b *s"],
    num_classes: int,
    *,
    neighbours: int = 5,
    cut_off: float | int = 0.9,
) -> Float[Array, " b *s k"]:
    """One-hot labels averaged in a box, except where the box is nearly of one class.

    Voxels near a border get the classes' shares in their box; voxels whose largest share is at
    least `cut_off` keep their own label, so that interiors - and specks smaller than
    ``1 - cut_off`` of the box - stay as they were. At the edge of the image the box is what of it
    lies inside.

    Args:
        label: class indices; values outside of the classes have no share.
        num_classes: number of classes ``k``.
        neighbours: edge of the box in voxels, odd.
        cut_off: share from which on a voxel stays one-hot.

    Raises:
        ValueError: an even box or a cut-off outside of (0, 1].
    """
    if neighbours < 1 or neighbours % 2 == 0:
        raise ValueError(f"neighbours {neighbours} must be an odd number of voxels")
    if not 0 < cut_off <= 1:
        raise ValueError(f"cut_off {cut_off} must be in (0, 1]")
    hard = jax.nn.one_hot(label, num_classes)
    box = (1, *(neighbours,) * (label.ndim - 1), 1)

    def box_sum(x):
        return lax.reduce_window(x, 0.0, lax.add, box, (1,) * x.ndim, "SAME")

    soft = box_sum(hard) / box_sum(jnp.ones((1, *hard.shape[1:-1], 1)))
    settled = soft.max(-1, keepdims=True) >= cut_off
    return jnp.where(settled, hard, soft)
