"""Images of label maps, whole or as stacks of slices in one style."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxmedgen.systems.base import (
    CanInterpolateStyles,
    CanNameStyles,
    CanSample,
    CanStylise,
    PlayerVariables,
    System,
)

Draw = Callable[[jax.Array, jax.Array, jax.Array | None], tuple[jax.Array, jax.Array]]
"""``(keys [b], label [b, *s], style [b, *r, c] or None) -> image [b, *s, c], label``, compiled."""

_GROUP = 8
"""Stacks are filled up to multiples of it, so that few programs are compiled."""


def compiled(
    system: System, variables: PlayerVariables, *, stylise: bool, vendor: str = ""
) -> Draw:
    """A system's images of label maps, in drawn styles or in those of images.

    Args:
        system: that samples from label maps.
        variables: of its players.
        stylise: whether styles are read from images.
        vendor: a style by its name, "" for drawn ones.

    Raises:
        ValueError: the system cannot do that, or does not know the vendor.
    """
    if vendor:
        known = system.style_names if isinstance(system, CanNameStyles) else ()
        if vendor not in known:
            there = f"its styles are {', '.join(known)}" if known else "its styles have no names"
            raise ValueError(f"--vendor {vendor}: {there} (arm=vendor of cardiac_synthesis has)")
        return jax.jit(
            lambda keys, label, style: system.sample_style(variables, keys, label, vendor)
        )
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
    label, count = _slices_first(label, axis)
    wanted = None if style is None else jnp.asarray(style)[None]
    found = draw(key[None], jnp.asarray(label, jnp.int32)[None], wanted)
    image, made = (np.asarray(part[0]) for part in found)
    if axis is None:
        return image, made
    return np.moveaxis(image[:count], 0, axis), np.moveaxis(made[:count], 0, axis)


def draw_between(
    system: CanInterpolateStyles,
    variables: PlayerVariables,
    label: Int[np.ndarray, "*s"],
    axis: int | None,
    ends: tuple[Float[np.ndarray, "*r c"], Float[np.ndarray, "*q c"]],
    places: Float[np.ndarray, " steps"],
) -> Float[np.ndarray, "steps *s c"]:
    """Images of one label map in styles on the way from that of one image to another's.

    Args:
        system: that interpolates styles.
        variables: of its players.
        label: a label map.
        axis: along which it is cut into slices for a system of slices; None shows it whole.
        ends: the two images.
        places: of the images on the way, 0 and 1 its ends.
    """
    label, count = _slices_first(label, axis)
    first, last = (jnp.asarray(end)[None] for end in ends)

    @jax.jit
    def draw(label, places):
        return system.interpolate(variables, label, first, last, places)[:, 0]

    image = np.asarray(draw(jnp.asarray(label, jnp.int32)[None], jnp.asarray(places, jnp.float32)))
    return image if axis is None else np.moveaxis(image[:, :count], 1, axis + 1)


def _slices_first(label: np.ndarray, axis: int | None) -> tuple[np.ndarray, int]:
    """Slices along the first axis, filled up to multiples of a group, and how many they were."""
    if axis is None:
        return label, 0
    label = np.moveaxis(label, axis, 0)
    return np.concatenate([label, np.repeat(label[-1:], -len(label) % _GROUP, 0)]), len(label)
