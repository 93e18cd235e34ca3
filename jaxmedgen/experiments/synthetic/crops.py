"""Square crops round a box, brought to one size, and label maps put back where they came from."""

import numpy as np
import scipy.ndimage
from jaxtyping import Float, Int

ENLARGED = 1.25
"""Factor on the sides of the box before it is cropped."""

CROP = 48
"""Rows and columns of a crop."""


def crop_box(
    box: Float[np.ndarray, " d"], shape: tuple[int, int]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """First corner and side of the square that is cropped, in pixels.

    Args:
        box: centre and size in parts of the image.
        shape: rows and columns.
    """
    centre = box[:2] * np.asarray(shape) - 0.5
    side = float(np.clip(ENLARGED * (box[2:] * np.asarray(shape)).max(), 8, max(shape)))
    return centre - side / 2, np.full(2, side)


def crop(
    array: Float[np.ndarray, "h w"] | Int[np.ndarray, "h w"],
    corner: Float[np.ndarray, " n"],
    side: Float[np.ndarray, " n"],
    *,
    order: int,
) -> np.ndarray:
    """The square on `CROP` x `CROP` pixels; beyond the image its edge goes on."""
    steps = (np.arange(CROP) + 0.5) / CROP
    places = np.meshgrid(*(c + s * steps for c, s in zip(corner, side)), indexing="ij")
    return scipy.ndimage.map_coordinates(array, places, order=order, mode="nearest")


def uncrop(
    label: Int[np.ndarray, "k k"],
    corner: Float[np.ndarray, " n"],
    side: Float[np.ndarray, " n"],
    shape: tuple[int, int],
) -> Int[np.ndarray, "h w"]:
    """The label map of a crop on the whole image, 0 outside."""
    rows, columns = ((np.arange(n) - c) / s * CROP - 0.5 for n, c, s in zip(shape, corner, side))
    places = np.meshgrid(rows, columns, indexing="ij")
    return scipy.ndimage.map_coordinates(label, places, order=0, mode="constant").astype(np.int32)
