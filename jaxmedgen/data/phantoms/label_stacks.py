"""Label maps of short-axis stacks without images: anatomies for generators of images."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from jaxmedgen.data.phantoms.short_axis import merge_tissues
from jaxmedgen.data.phantoms.short_axis_stack import (
    DISEASES,
    FIELD_OF_VIEW,
    LENGTH,
    draw_heart,
    draw_stack,
)
from jaxmedgen.data.randomness import sample_generator

SLICES = (8, 14)
"""Least and largest number of slices."""


def label_stacks(
    count: int, shape: tuple[int, int], classes: int, seed: int
) -> Iterator[tuple[Int[np.ndarray, "n h w"], tuple[float, float, float]]]:
    """Hearts at end diastole, slices first from base to apex; diseases take turns.

    Args:
        count: number of stacks, each a pure function of (seed, number).
        shape: rows and columns.
        classes: 4 or 8, see `short_axis.merge_tissues`.
        seed: of all stacks.

    Yields:
        Label map and spacing in mm.
    """
    pixel = FIELD_OF_VIEW / min(shape)
    for number in range(count):
        rng = sample_generator(seed, 0, number, count)
        heart = draw_heart(rng, DISEASES[number % len(DISEASES)])
        slices = int(rng.integers(SLICES[0], SLICES[1] + 1))
        tissues = draw_stack(rng, heart, slices, shape)
        yield merge_tissues(tissues, classes), (LENGTH / slices, pixel, pixel)
