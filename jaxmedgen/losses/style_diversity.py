"""Whether a generator listens to the style that is drawn for it.

The deviation over a batch (`adversarial.relative_diversity`) does not tell: images of different
inputs differ also where the drawn vector counts for nothing.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmedgen.losses.adversarial import is_batch_of_one
from jaxmedgen.ops.collectives import all_gather, all_mean

EVERY = 20
"""Steps between measurements, which cost images of their own."""


def style_diversity(
    step: Int[Array, ""],
    draw: Callable[[], tuple[Float[Array, " b *s c"], Float[Array, " b *s c"]]],
    real: Float[Array, " b *s c"],
) -> Float[Array, ""]:
    """Mean absolute difference of images of one input in two styles, in units of real pairs'.

    0 for a generator that ignores styles. Real images differ in more than style: how far below 1 a
    good generator lies depends on the data. A real pair is an image and the next one of the global
    batch. NaN, which logs leave out, but in every `EVERY`-th step, and always for a global batch of
    one, which has no pair.

    Args:
        step: number of finished steps.
        draw: makes the images, the same inputs in one style and in another.
        real: real images.
    """
    if is_batch_of_one(real):
        return jnp.full((), jnp.nan, jnp.float32)

    def measure():
        one, other = draw()
        everyone = all_gather(real)
        between = _distance(everyone, jnp.roll(everyone, 1, axis=0))
        return jax.lax.stop_gradient(all_mean(_distance(one, other)) / (between + 1e-8))

    return jax.lax.cond(step % EVERY == 0, measure, lambda: jnp.full((), jnp.nan, jnp.float32))


def _distance(a, b):
    return jnp.mean(jnp.abs(a.astype(jnp.float32) - b.astype(jnp.float32)))
