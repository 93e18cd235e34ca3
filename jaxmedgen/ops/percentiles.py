"""Intensities between two percentiles, to a fixed range and back."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

SCALINGS = ("slice", "volume", "none")

LOW, HIGH = 1.0, 99.0
"""Percentiles of cardiac synthesis (Amirrajab et al., MELBA 2023:010)."""


def percentile_window(
    image: Float[Array, " *s"],
    axes: Sequence[int],
    low: float | int = LOW,
    high: float | int = HIGH,
) -> Float[Array, " 2 *o"]:
    """Values of two percentiles, over `axes` of an array, which stay as axes of length one.

    Args:
        image: any array; ``[b, *space, c]`` with the axes of space gives a window a sample and
            channel.
        axes: what the percentiles are taken over: a slice, or a volume.
        low: lower percentile.
        high: upper percentile.
    """
    return jnp.percentile(image, jnp.asarray([low, high]), axis=tuple(axes), keepdims=True)


def to_window(
    image: Float[Array, " *s"], window: Float[Array, " 2 *o"], eps: float = 1e-6
) -> Float[Array, " *s"]:
    """Clips to the window and maps it onto [-1, 1]; -1 everywhere where the window is empty.

    Args:
        image: intensities.
        window: lower and upper end, shapes that broadcast with the image.
        eps: widths below it count as empty.
    """
    low, high = window
    width = high - low
    scaled = 2 * (image - low) / jnp.maximum(width, eps) - 1
    return jnp.where(width < eps, -1.0, jnp.clip(scaled, -1, 1))


def from_window(image: Float[Array, " *s"], window: Float[Array, " 2 *o"]) -> Float[Array, " *s"]:
    """[-1, 1] onto the window."""
    low, high = window
    return low + (image + 1) / 2 * (high - low)


def scale_intensities(
    image: Float[Array, " b *s c"],
    scaling: str,
    window: Float[Array, " b 2 c"] | None = None,
) -> Float[Array, " b *s c"]:
    """Intensities to [-1, 1] by percentiles of each slice or of its volume.

    Slices scaled one by one lose how bright they are beside each other.

    Args:
        image: slices ``[b, h, w, c]``, or volumes with their slices first.
        scaling: ``slice``, ``volume`` or ``none`` (intensities are in [-1, 1] already).
        window: percentiles of each image's volume, which ``volume`` takes where they are given.

    Raises:
        ValueError: unknown scaling.
    """
    if scaling not in SCALINGS:
        raise ValueError(f"scaling='{scaling}': choose one of {', '.join(SCALINGS)}")
    if scaling == "none":
        return image
    axes = tuple(range(1, image.ndim - 1))
    if scaling == "volume" and window is not None:
        ends = jnp.moveaxis(window, 1, 0).reshape(2, len(image), *[1] * len(axes), -1)
    else:
        each = scaling == "slice" and len(axes) == 3
        ends = percentile_window(image, axes[1:] if each else axes)
    return to_window(image, ends)
