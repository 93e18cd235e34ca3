"""Ellipse masks with five known factors: the shapes of which everything is known.

Centre, axes and angle are drawn on their own; edges are a pixel wide. What a linear model makes of
them is known too: ellipses are not closed under addition.
"""

import numpy as np
from jaxtyping import Float

from jaxmedgen.data.phantoms.drawn_masks import DrawnMasks
from jaxmedgen.data.sources import Record

FACTORS = ("centre0", "centre1", "long", "short", "angle")


class Ellipses(DrawnMasks):
    """Drawn ellipses."""

    case = foreground = "ellipse"

    def __getitem__(self, index: int) -> Record:
        """``image`` in [0, 1], ``label``, and ``factors`` in the order of `FACTORS`.

        Centre +-4 pixels about the middle, half axes 5-10 and 3-6 pixels, any angle (radians).
        """
        rng, unit = self.generator(index), self.unit
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
