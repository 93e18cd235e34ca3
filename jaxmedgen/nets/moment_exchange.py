"""Moment exchange: features of one sample take mean and deviation of another's.

``h' = s_B (h_A - m_A) / s_A + m_B`` with ``s = sqrt(var + epsilon)``. The moments of a sample carry
its style or, taken over channels at each position, its layout. Gradients flow through the partner's
moments too, as in the authors' code. A normalisation that removes the very moments must not follow
directly: instance norm undoes an exchange of ``instance``, ``layer`` or ``group`` moments.

Source: Li et al., "On feature normalization and data augmentation", CVPR 2021.
"""

import dataclasses
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmedgen.ops.collectives import all_gather

MomentKind = Literal["positional", "instance", "layer", "group", "group_positional"]


@dataclasses.dataclass(frozen=True)
class MomentExchange:
    """Moment exchange as a part of training.

    Attributes:
        kind: which moments, see `moments`.
        weight: of a sample's own label in the loss, lambda; the rest goes to the partner's. 1 for
            moments of style; below 1 for positional ones, which carry the partner's layout.
        p: probability.
        level: of the encoder, whose output is exchanged: 0 at full resolution (the stem), 1 below.
    """

    kind: MomentKind = "instance"
    weight: float | int = 1.0
    p: float | int = 0.5
    level: int = 0

    def __post_init__(self) -> None:
        if self.level < 0:
            raise ValueError(f"level = {self.level} of moment exchange: count from 0 on")
        for name in ("weight", "p"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)} of moment exchange: use 0 to 1")


def moments(
    features: Float[Array, " b *s c"],
    kind: MomentKind,
    *,
    groups: int = 4,
    epsilon: float = 1e-5,
    ddof: int = 1,
) -> tuple[Float[Array, " b *o k"], Float[Array, " b *o k"]]:
    """Mean and deviation ``sqrt(var + epsilon)``, shaped to broadcast, in float32.

    Args:
        features: of a batch.
        kind: ``positional``: over channels at each position (PONO); ``instance``: over space of
            each channel; ``layer``: over both; ``group``: over space and blocks of channels;
            ``group_positional``: over blocks of channels at each position.
        groups: number of blocks.
        epsilon: added to the variance.
        ddof: 1 for the unbiased variance of the authors' code.

    Raises:
        ValueError: channels do not divide into the groups, or are too few for a variance.
    """
    x = features.astype(jnp.float32)
    space, channels = tuple(range(1, x.ndim - 1)), x.shape[-1]
    axes = {"positional": (x.ndim - 1,), "instance": space, "layer": (*space, x.ndim - 1)}
    grouped, seen = kind in ("group", "group_positional"), channels
    if grouped:
        if channels % groups:
            raise ValueError(f"{channels} channels do not divide into groups={groups}")
        seen = channels // groups
        x = x.reshape(*x.shape[:-1], groups, seen)
        axes |= {"group": (*space, x.ndim - 1), "group_positional": (x.ndim - 1,)}
    if "positional" in kind and seen <= ddof:
        raise ValueError(f"positional moments of {seen} channel(s): they need at least two")
    mean = x.mean(axes[kind], keepdims=True)
    deviation = jnp.sqrt(x.var(axes[kind], keepdims=True, ddof=ddof) + epsilon)
    if grouped:
        wide = (*mean.shape[:-2], groups, seen)
        flat = (*mean.shape[:-2], channels)
        mean, deviation = (jnp.broadcast_to(m, wide).reshape(flat) for m in (mean, deviation))
    return mean, deviation


def exchange_moments(
    features: Float[Array, " b *s c"],
    partner: Int[Array, " b"],
    kind: MomentKind = "instance",
    *,
    groups: int = 4,
    epsilon: float = 1e-5,
    ddof: int = 1,
) -> Float[Array, " b *s c"]:
    """Features with their partners' moments.

    Args:
        features: ``h``; under `jax.pmap` those of one device.
        partner: position of each sample's partner in the global batch; its own for no exchange.
        kind: see `moments`.
        groups: likewise.
        epsilon: likewise.
        ddof: likewise.
    """
    mean, deviation = moments(features, kind, groups=groups, epsilon=epsilon, ddof=ddof)
    other_mean, other_deviation = (all_gather(m)[partner] for m in (mean, deviation))
    out = (features - mean) * (other_deviation / deviation) + other_mean
    return out.astype(features.dtype)
