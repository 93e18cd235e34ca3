"""What lies around a head in images without air: its value, and which voxels are not of it.

A number is that value as it stands: voxels that have it in every channel are outside. ``"min"``
takes each sample's own lowest level, channel by channel, which is where air lies after the
library's ``zscore``: that takes its statistics over voxels that are not 0 and moves the 0s to
``-mean / deviation``, another number in every subject.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxmedgen.augment.statistics import lift, value_range

Background = float | int | str | None
"""A number, ``"min"``, or None: there is no outside."""

_RINGING = 0.01  # of the distance from air to the brightest voxel


@dataclasses.dataclass(frozen=True)
class Outside:
    """What is around the heads of a batch.

    Attributes:
        value: fills what comes in from beyond the border; one number or ``[b, c]``.
        limit: with values for each sample and channel, up to where a voxel is outside, ``[b, c]``;
            None: exactly `value` is.
    """

    value: Float[Array, " b c"] | float | int
    limit: Float[Array, " b c"] | None = None

    def head(self, image: Float[Array, " b *s c"]) -> Bool[Array, " b *s"]:
        """Voxels of the head: those that are not outside in every channel."""
        if self.limit is None:
            return (image != self.value).any(-1)
        return (image > lift(self.limit, image)).any(-1)


def check_background(background: Background) -> None:
    """Refuses what is no background.

    Raises:
        ValueError: a word other than ``"min"``.
    """
    if isinstance(background, str) and background != "min":
        raise ValueError(
            f"augment.background={background!r} is no value: give a number, 'min' (each sample's "
            "lowest) or None"
        )


def outside_of(background: Background, image: Float[Array, " b *s c"]) -> Outside | None:
    """What is outside in a batch of images that no intensity transform has changed yet.

    Args:
        background: a number, ``"min"`` or None.
        image: any intensities.
    """
    if background is None:
        return None
    if not isinstance(background, str):
        return Outside(background)
    low = lowest_level(image)
    # Cubic resampling rings around the head: what it leaves in the air is air.
    return Outside(low, low + _RINGING * (value_range(image)[1] - low))


def lowest_level(image: Float[Array, " b *s c"]) -> Float[Array, " b c"]:
    """The lowest value that touching voxels share, a sample and channel.

    That is the minimum unless a scan was resampled to other voxels: a cubic spline undershoots
    beside the head, so that the very lowest voxels lie in front of the air, not in it. Where no two
    voxels are alike, as in a patch without air, it is the minimum.
    """
    axes = [axis for axis in range(1, image.ndim - 1) if image.shape[axis] > 1]

    def shifted(along):
        cut = [slice(None)] * image.ndim
        for axis in axes:
            cut[axis] = slice(1, None) if axis == along else slice(-1)
        return image[tuple(cut)]

    here = shifted(None)
    level = jnp.ones(here.shape, bool)
    for axis in axes:
        level &= here == shifted(axis)
    found = value_range(jnp.where(level, here, jnp.inf))[0]
    return jnp.where(jnp.isfinite(found), found, value_range(image)[0])
