"""Images of label maps, whole or as stacks of slices in one style."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxmedgen.systems.base import CanSample, CanStylise, PlayerVariables, System

Draw = Callable[[jax.Array, jax.Array, jax.Array | None], tuple[jax.Array, jax.Array]]
"""``(keys [b], label [b, *s], style [b, *r, c] or None) -> image [b, *s, c], label``, compiled."""

_GROUP = 8
"""Stacks are filled up to multiples of it, so that few programs are compiled."""


def compiled(system: System, variables: PlayerVariables, *, stylise: bool) -> Draw:
    """A system's images of label maps, in drawn styles or in those of images.

    Args:
        system: that samples from label maps.
        variables: of its players.
        stylise: whether styles are read from images.

    Raises:
        ValueError: the system cannot do that.
    """
    ability = CanStylise if stylise else CanSample
    if not isinstance(system, ability):
        raise ValueError(f"{type(system).__name__} reads no styles from images: leave out --style")

    @jax.jit
    def draw(keys, label, style):
        if stylise:
            return system.stylise(variables, label, style), label
        return system.sample(variables, keys, label)

    return draw


def draw_image(
    draw: Draw,
    key: jax.Array,
    label: Int[np.ndarray, "*s"],
    axis: int | None = None,
    style: Float[np.ndarray, "*r c"] | None = None,
) -> tuple[Float[np.ndarray, "*s c"], Int[np.ndarray, "*s"]]:
    """The image of one label map, and its label, which a system may have deformed or merged.

    Args:
        draw: from `compiled`.
        key: of the style that is drawn.
        label: a label map.
        axis: along which it is cut into slices for a system of slices; None shows it whole.
        style: image whose style is taken.
    """
    count = 0
    if axis is not None:
        label = np.moveaxis(label, axis, 0)
        count = len(label)
        label = np.concatenate([label, np.repeat(label[-1:], -count % _GROUP, 0)])
    wanted = None if style is None else jnp.asarray(style)[None]
    found = draw(key[None], jnp.asarray(label, jnp.int32)[None], wanted)
    image, made = (np.asarray(part[0]) for part in found)
    if axis is None:
        return image, made
    return np.moveaxis(image[:count], 0, axis), np.moveaxis(made[:count], 0, axis)
