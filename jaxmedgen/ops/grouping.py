"""Samples of several groups side by side: ``[b, ...] -> [groups, capacity, ...]`` and back.

For models of one kind a group (one VAE a class) that are trained in one program: gathers alone, so
that it runs under any sharding.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Shaped

from jaxmedgen.types import Leaf


class Places(NamedTuple):
    """Where samples of groups are.

    Attributes:
        source: sample of each place, ``[groups, capacity]``; any where the place is empty.
        filled: whether there is one, ``[groups, capacity]``.
        group: of each sample, ``[b]``.
        rank: of each sample in its group, ``[b]``; from `capacity` on it has no place.
    """

    source: Leaf
    filled: Leaf
    group: Leaf
    rank: Leaf


def places_of_groups(group: Int[Array, " b"], groups: int, capacity: int) -> Places:
    """Places of samples, in their order within each group.

    Args:
        group: of each sample.
        groups: their number.
        capacity: places a group.

    Raises:
        ValueError: no places.
    """
    if groups < 1 or capacity < 1:
        raise ValueError(f"groups={groups}, capacity={capacity}: give at least 1 of each")
    member = group[:, None] == jnp.arange(groups)
    ranks = jnp.cumsum(member, 0) - 1
    rank = jnp.take_along_axis(ranks, jnp.clip(group, 0, groups - 1)[:, None], 1)[:, 0]
    # Members first and in order: a stable sort of what is no member.
    order = jnp.argsort(~member, axis=0, stable=True)[:capacity].T
    count = member.sum(0)
    filled: Bool[Array, "groups capacity"] = jnp.arange(capacity) < count[:, None]
    missing = capacity - order.shape[1]
    if missing > 0:
        order = jnp.pad(order, [(0, 0), (0, missing)])
    return Places(order, filled, group, rank)


def to_groups(places: Places, x: Shaped[Array, " b *s"]) -> Shaped[Array, "groups capacity *s"]:
    """Samples by group; empty places hold copies of some sample."""
    return x[places.source]


def from_groups(places: Places, x: Shaped[Array, "groups capacity *s"]) -> Shaped[Array, " b *s"]:
    """Back to the samples' order; those without a place get another sample's value."""
    return x[places.group, jnp.minimum(places.rank, x.shape[1] - 1)]
