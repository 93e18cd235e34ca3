"""Intensity statistics a sample and channel, shared by the transforms.

A mask, where there is one, says which voxels count: those of the head, not the air around it. A
mask without any voxel counts all of them.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Mask = Bool[Array, " b *s"] | None


def value_range(
    image: Float[Array, " b *s c"], mask: Mask = None
) -> tuple[Float[Array, " b c"], Float[Array, " b c"]]:
    """Smallest and largest value over space (or over the mask)."""
    space = tuple(range(1, image.ndim - 1))
    low = high = image
    if mask is not None:
        counts = _counting(mask)[..., None]
        low, high = jnp.where(counts, image, jnp.inf), jnp.where(counts, image, -jnp.inf)
    # Reduced twice, once stacked: XLA:CPU would else put these reductions into the loop that reads
    # them, where they run at a tenth of the speed.
    both = jnp.stack([low.min(space), high.max(space)])
    return both.min(0), both.max(0)


def moments(
    image: Float[Array, " b *s c"], mask: Mask = None
) -> tuple[Float[Array, " b *o c"], Float[Array, " b *o c"]]:
    """Mean and standard deviation over space (or over the mask), shaped to broadcast."""
    space = tuple(range(1, image.ndim - 1))
    counts = None if mask is None else _counting(mask)[..., None]
    mean = image.mean(space, keepdims=True, where=counts)
    return mean, image.std(space, keepdims=True, where=counts)


def match_stats(
    image: Float[Array, " b *s c"], reference: Float[Array, " b *s c"], mask: Mask = None
) -> Float[Array, " b *s c"]:
    """Image shifted and scaled to the mean and standard deviation of the reference."""
    mean, deviation = moments(image, mask)
    wanted_mean, wanted_deviation = moments(reference, mask)
    return (image - mean) * (wanted_deviation / jnp.maximum(deviation, 1e-7)) + wanted_mean


def power(unit: Float[Array, " b *s c"], exponent: Float[Array, " b c"]) -> Float[Array, " b *s c"]:
    """``x^g`` of values in [0, 1]; others are clipped, so that a rounding gives no NaN."""
    # exp(g log x) is three times as fast as XLA:CPU's power.
    out = jnp.exp(lift(exponent, unit) * jnp.log(jnp.clip(unit, 1e-30, 1.0)))
    return jnp.where(unit > 0, out, 0.0)


def lift(value: Float[Array, " b c"], image: Float[Array, " b *s k"]) -> Float[Array, " b *o c"]:
    """One value a sample and channel, shaped to broadcast against an image."""
    return value.reshape(value.shape[0], *(1,) * (image.ndim - 2), value.shape[1])


def _counting(mask):
    space = tuple(range(1, mask.ndim))
    return mask | ~mask.any(space, keepdims=True)
