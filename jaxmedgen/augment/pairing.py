"""Who is mixed with whom: partners drawn over the global batch.

Every sample draws a score from its own key; in the order of the scores each one's partner is the
next, the last one's the first. That is a uniformly random cycle: nobody is its own partner, and
the pairs depend on the samples alone, not on their order in the batch or on the devices that hold
them. Under `jax.jit` arrays are global and XLA fetches the partners; under `jax.pmap` scores and
samples are gathered explicitly (`ops/collectives.py`).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxmedgen.ops.collectives import all_gather, axis_name


def draw_partners(
    score: Float[Array, " b"], positive: Bool[Array, " b"] | None = None
) -> Int[Array, " b"]:
    """Position in the global batch of each local sample's partner.

    Args:
        score: one uniform number a sample, from its own key.
        positive: samples with a lesion, for pairs that hold at least one of them: a negative
            sample's partner is then a positive one, in turn. Positive samples keep the cycle.
    """
    score = all_gather(score)
    count = score.shape[0]
    order = jnp.argsort(score)
    rank = jnp.argsort(order)
    partner = order[(rank + 1) % count]
    if positive is not None:
        positive = all_gather(positive)
        found = positive.sum()
        first = jnp.argsort(jnp.where(positive, score, score + 2.0))  # positive ones in front
        other = first[rank % jnp.maximum(found, 1)]
        partner = jnp.where(positive | (found == 0), partner, other)
    return _local(partner)


def own_positions(count: int) -> Int[Array, " b"]:
    """Positions of the `count` local samples in the global batch."""
    name = axis_name()
    first = 0 if name is None else jax.lax.axis_index(name) * count
    return first + jnp.arange(count)


def take_partners(x: Shaped[Array, " b *s"], partner: Int[Array, " b"]) -> Shaped[Array, " b *s"]:
    """The partners' rows of `x`."""
    return all_gather(x)[partner]


def _local(values):
    name = axis_name()
    if name is None:
        return values
    count = values.shape[0] // jax.lax.axis_size(name)
    return jax.lax.dynamic_slice_in_dim(values, jax.lax.axis_index(name) * count, count)
