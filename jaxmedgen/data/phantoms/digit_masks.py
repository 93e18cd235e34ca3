"""Digit-like masks of ten classes, a stand-in for binary handwritten digits.

The strokes of `glyphs`, straight, under a small random affine map, 1 to 3 pixels wide, with blurred
edges. A conditional model is asked for a class, or for what half of a mask does not show.
"""

import numpy as np
import scipy.ndimage

from jaxmedgen.data.phantoms import glyphs
from jaxmedgen.data.phantoms.drawn_masks import DrawnMasks
from jaxmedgen.data.sources import Record

CLASSES = glyphs.CLASSES
FACTORS = ("width", "rotation", "scale", "shift0", "shift1")
_BLUR = 0.5


class DigitMasks(DrawnMasks):
    """Drawn digits; the class is in ``target``, not in a label map."""

    case = "digit"
    foreground = "ink"

    def __getitem__(self, index: int) -> Record:
        """``image`` in [0, 1], ``label``, ``target`` (class), ``factors``, ``context``.

        Factors: stroke width in pixels, rotation in radians (15 degrees), scale (0.8 to 1.2),
        shifts in pixels (3). The context is the image without its lower half.
        """
        rng, unit = self.generator(index), self.unit
        kind = int(rng.integers(CLASSES))
        width, rotation = unit * rng.uniform(1, 3), np.deg2rad(rng.uniform(-15, 15))
        scale, shift = rng.uniform(0.8, 1.2), unit * rng.uniform(-3, 3, 2)
        half = min(self.shape) / 2  # `glyphs.draw` measures in half pictures, width in scales
        drawn = glyphs.draw(
            np.array([kind, width / half / scale, 0.0, rotation, scale, *(shift / half)]),
            self.shape,
        )
        image = np.clip(scipy.ndimage.gaussian_filter(drawn, _BLUR * unit), 0, 1)
        image = image[..., None].astype(np.float32)
        context = image.copy()
        context[self.shape[0] // 2 :] = 0
        return {
            "image": image,
            "label": (image[..., 0] > 0.5).astype(np.int32),
            "target": np.int32(kind),
            "factors": np.array([width, rotation, scale, *shift], np.float32),
            "context": context,
        }
