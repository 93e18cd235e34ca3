"""Ellipse masks with five known factors: the shapes of which everything is known.

Centre, axes and angle are drawn on their own; edges are a pixel wide. What a linear model makes of
them is known too: ellipses are not closed under addition.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from jaxmedgen.data.randomness import sample_generator
from jaxmedgen.data.sources import DatasetInfo, Record

FACTORS = ("centre0", "centre1", "long", "short", "angle")


@dataclasses.dataclass(frozen=True)
class Ellipses:
    """`size` masks, each a pure function of (seed, start + index).

    Attributes:
        size: number of masks.
        shape: two axes of at least 16 pixels; lengths are for 32 and grow with the shorter one.
        seed: of all masks.
        start: number of the first mask.
    """

    size: int
    shape: tuple[int, ...] = (32, 32)
    seed: int = 0
    start: int = 0

    def __post_init__(self) -> None:
        if len(self.shape) != 2 or min(self.shape) < 16:
            raise ValueError(f"shape {self.shape}: ellipses have two axes of at least 16 pixels")

    @property
    def info(self) -> DatasetInfo:
        """One channel, one class; spacing 1 mm."""
        return DatasetInfo(
            class_names=("background", "ellipse"),
            channel_names=("mask",),
            spacing=(1.0, 1.0),
            case_names=tuple(f"ellipse-{self.start + i:06d}" for i in range(self.size)),
        )

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Record:
        """``image`` in [0, 1], ``label``, and ``factors`` in the order of `FACTORS`.

        Centre +-4 pixels about the middle, half axes 5-10 and 3-6 pixels, any angle (radians).
        """
        rng = sample_generator(self.seed, self.start, index, self.size)
        unit = min(self.shape) / 32
        lengths = [*rng.uniform(-4, 4, 2), rng.uniform(5, 10), rng.uniform(3, 6)]
        factors = np.array([*(unit * np.array(lengths)), rng.uniform(0, np.pi)])
        image = draw(factors, self.shape)
        return {
            "image": image[..., None].astype(np.float32),
            "label": (image > 0.5).astype(np.int32),
            "factors": factors.astype(np.float32),
        }


def draw(factors: Float[np.ndarray, "5"], shape: tuple[int, ...]) -> Float[np.ndarray, "h w"]:
    """The mask of given factors, values in [0, 1]."""
    *centre, long, short, angle = factors
    half = (np.asarray(shape) - 1) / 2
    row, column = np.ogrid[: shape[0], : shape[1]]
    y, x = row - half[0] - centre[0], column - half[1] - centre[1]
    cos, sin = np.cos(angle), np.sin(angle)
    along, across = cos * x + sin * y, cos * y - sin * x
    radius = np.sqrt((along / long) ** 2 + (across / short) ** 2)
    # Distance to the edge along the slope of the radius, right to first order.
    slope = np.sqrt((along / long**2) ** 2 + (across / short**2) ** 2) / np.maximum(radius, 1e-9)
    return np.clip(0.5 + (1 - radius) / np.maximum(slope, 1e-9), 0, 1)
