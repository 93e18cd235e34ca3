"""The summary of a population: template, variance, labels and principal modes of deformation."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.ops.fields import warp
from jaxmedgen.ops.velocity_flows import VelocityFlow
from jaxmedgen.types import Leaf, Params, Variables


class Atlas(NamedTuple):
    """What a population is summarised by.

    Attributes:
        image: template, ``[*s, c]``.
        variance: of the subjects' intensities in template space, ``[*s, c]``.
        label: most frequent label in template space, ``[*s]``.
        modes: template moved along the first modes, ``[modes, deviations, *s, c]``.
    """

    image: Leaf
    variance: Leaf
    label: Leaf
    modes: Leaf


def move_template(
    flow: VelocityFlow, params: Params, xi: Float[Array, " b *x"]
) -> Float[Array, " b *s ck"]:
    """Template and label probabilities, moved to subjects of whitened velocities `xi`.

    ``I_T o phi^-1``: the opposite of how subjects are pulled to the template.
    """
    both = jnp.concatenate([params["template"], params["labels"]], -1)
    back = flow.inverse(xi, params["prior"])
    return warp(jnp.broadcast_to(both, (xi.shape[0], *both.shape)), back)


def principal_modes(
    draws: Float[Array, " k chains draws *x"], count: int
) -> tuple[Float[Array, " *x"], Float[Array, " modes *x"], Float[Array, " modes"]]:
    """Mean, directions times standard deviation, and deviations of the subjects' mean velocities.

    In whitened coordinates the inner product is that of the prior, ``<L v, w>``.

    Args:
        draws: whitened velocities.
        count: modes wanted; there are at most ``k - 1``.
    """
    subjects, shape = draws.shape[0], draws.shape[3:]
    velocity = jnp.mean(draws, (1, 2)).reshape(subjects, -1)
    mean = jnp.mean(velocity, 0)
    _, size, direction = jnp.linalg.svd(velocity - mean, full_matrices=False)
    kept = min(count, max(subjects - 1, 1))
    deviation = size[:kept] / jnp.sqrt(max(subjects - 1, 1))
    modes = (deviation[:, None] * direction[:kept]).reshape(kept, *shape)
    return mean.reshape(shape), modes, deviation


def summarise(
    flow: VelocityFlow,
    variables: Variables,
    modes: int,
    deviations: Sequence[float | int],
) -> Atlas:
    """The atlas of a player's variables, with the template moved along its principal modes.

    Args:
        flow: of the velocities.
        variables: ``params``, ``chains`` and ``population``.
        modes: wanted number.
        deviations: along each mode, in its standard deviations.
    """
    params = variables["params"]
    mean, axes, _ = principal_modes(variables["chains"]["draws"], modes)
    steps = jnp.asarray(deviations, jnp.float32).reshape(-1, *(1,) * mean.ndim)
    points = mean + steps * axes[:, None]
    moved = move_template(flow, params, points.reshape(-1, *mean.shape))
    channels = params["template"].shape[-1]
    images = moved[..., :channels].reshape(*points.shape[:2], *params["template"].shape)
    label = jnp.argmax(params["labels"], -1)
    return Atlas(params["template"], variables["population"]["variance"], label, images)
