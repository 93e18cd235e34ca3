"""Dice loss of batches in which only some samples have a reference.

Source: Vorontsov et al., arXiv 1904.01636: overlap and size are summed over all labelled pixels of
the batch jointly, so that a batch without a reference has no loss.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.ops.collectives import all_sum


def labelled_dice_loss(
    probabilities: Float[Array, "b *s k"],
    target: Float[Array, "b *s k"],
    has_mask: Float[Array, " b"],
    smooth: float = 1.0,
) -> Float[Array, ""]:
    """``-(2 sum p y + smooth) / (sum p + sum y + smooth)``, the mean over the classes.

    Sums run over all voxels of the samples that have a mask, of the global batch; with none of them
    the loss is 0, not the -1 of two empty masks.

    Args:
        probabilities: of the classes that count.
        target: their masks, 0 or 1.
        has_mask: 1 for samples whose target is known, 0 for the others.
        smooth: added to both.
    """
    weight = has_mask.astype(jnp.float32).reshape(-1, *[1] * (probabilities.ndim - 1))
    p, y = probabilities.astype(jnp.float32) * weight, target.astype(jnp.float32) * weight
    axes = tuple(range(p.ndim - 1))
    overlap, size = all_sum((p * y).sum(axes)), all_sum((p + y).sum(axes))
    known = all_sum(has_mask.astype(jnp.float32).sum()) > 0
    return jnp.where(known, -jnp.mean((2 * overlap + smooth) / (size + smooth)), 0.0)
