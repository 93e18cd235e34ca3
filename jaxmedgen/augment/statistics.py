"""Intensity statistics a sample and channel, shared by the transforms."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def value_range(
    image: Float[Array, " b *s c"],
) -> tuple[Float[Array, " b c"], Float[Array, " b c"]]:
    """Smallest and largest value over space."""
    space = tuple(range(1, image.ndim - 1))
    # Reduced twice, once stacked: XLA:CPU would else put these reductions into the loop that reads
    # them, where they run at a tenth of the speed.
    both = jnp.stack([image.min(space), image.max(space)])
    return both.min(0), both.max(0)


def match_stats(
    image: Float[Array, " b *s c"], reference: Float[Array, " b *s c"]
) -> Float[Array, " b *s c"]:
    """Image shifted and scaled to the mean and standard deviation of the reference."""
    space = tuple(range(1, image.ndim - 1))

    def stats(x):
        return x.mean(space, keepdims=True), x.std(space, keepdims=True)

    (mean, deviation), (wanted_mean, wanted_deviation) = stats(image), stats(reference)
    return (image - mean) * (wanted_deviation / jnp.maximum(deviation, 1e-7)) + wanted_mean


def power(unit: Float[Array, " b *s c"], exponent: Float[Array, " b c"]) -> Float[Array, " b *s c"]:
    """``x^g`` of values in [0, 1]; others are clipped, so that a rounding gives no NaN."""
    # exp(g log x) is three times as fast as XLA:CPU's power.
    out = jnp.exp(lift(exponent, unit) * jnp.log(jnp.clip(unit, 1e-30, 1.0)))
    return jnp.where(unit > 0, out, 0.0)


def lift(value: Float[Array, " b c"], image: Float[Array, " b *s k"]) -> Float[Array, " b *o c"]:
    """One value a sample and channel, shaped to broadcast against an image."""
    return value.reshape(value.shape[0], *(1,) * (image.ndim - 2), value.shape[1])
