"""Maximum pooling that remembers where the maxima were, and its inverse.

Source: Zeiler & Fergus, ECCV 2014 (unpooling with switches); Badrinarayanan et al., TPAMI 2017.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def max_pool_places(
    x: Float[Array, "b *s c"], factor: int = 2
) -> tuple[Float[Array, "b *s2 c"], Int[Array, "b *s2 c"]]:
    """Maxima of blocks of `factor` voxels an axis, and which voxel of its block each one is.

    Axes shrink to ``ceil(s / factor)``; blocks at the end of an axis that does not divide are
    smaller.

    Args:
        x: images.
        factor: voxels an axis of a block.

    Returns:
        The maxima, and their number within the block in C order (the first of equal ones).
    """
    n = x.ndim - 2
    pads = [(0, 0), *((0, -s % factor) for s in x.shape[1:-1]), (0, 0)]
    blocks = _blocks(jnp.pad(x, pads, constant_values=-jnp.inf), factor, n)
    return blocks.max(-2), blocks.argmax(-2)


def max_unpool(
    x: Float[Array, "b *s c"], places: Int[Array, "b *s c"], factor: int = 2
) -> Float[Array, "b *s2 c"]:
    """Enlarges by `factor`: each value goes where the maximum of its block was, zeros elsewhere.

    Args:
        x: values, one a block.
        places: from `max_pool_places`.
        factor: as there.
    """
    n = x.ndim - 2
    number = jnp.arange(factor**n).reshape(-1, 1)
    blocks = jnp.where(places[..., None, :] == number, x[..., None, :], 0)
    blocks = blocks.reshape(*x.shape[:-1], *(factor,) * n, x.shape[-1])
    # [b, s1, s2, .., f1, f2, .., c] -> [b, s1, f1, s2, f2, .., c]
    order = [0, *(axis for i in range(n) for axis in (1 + i, 1 + n + i)), 2 * n + 1]
    size = [s * factor for s in x.shape[1:-1]]
    return blocks.transpose(order).reshape(x.shape[0], *size, x.shape[-1])


def _blocks(x, factor, n):
    """``[b, *s, c] -> [b, *s / factor, factor^n, c]``."""
    size = [s // factor for s in x.shape[1:-1]]
    split = [v for s in size for v in (s, factor)]
    x = x.reshape(x.shape[0], *split, x.shape[-1])
    order = [0, *range(1, 2 * n, 2), *range(2, 2 * n + 1, 2), 2 * n + 1]
    return x.transpose(order).reshape(x.shape[0], *size, math.prod((factor,) * n), x.shape[-1])
