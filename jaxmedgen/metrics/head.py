"""Sizes of a head in a mask: relative volume difference and the three diameters of antenatal care.

Biparietal (BPD) and occipitofrontal diameter (OFD) and head circumference (HC) are those of an
ellipse of the same second moments as the head's section, in the axial slice where the head is
widest; HC is the ellipse's perimeter (Ramanujan's second formula).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from skimage.measure import regionprops


class Biometry(NamedTuple):
    """Sizes of a head; NaN for an empty mask.

    Attributes:
        bpd: biparietal diameter in mm.
        ofd: occipitofrontal diameter in mm.
        hc: head circumference in mm.
        volume: of the whole mask in millilitres.
    """

    bpd: float
    ofd: float
    hc: float
    volume: float


def relative_volume_difference(
    prediction: Bool[np.ndarray, "*s"], reference: Bool[np.ndarray, "*s"]
) -> float:
    """``(|A| - |B|) / |B|``, signed: above 0 where the prediction A is larger.

    Raises:
        ValueError: the reference is empty.
    """
    if not reference.any():
        raise ValueError("the reference mask is empty: a relative volume needs one")
    return float(prediction.sum() / reference.sum() - 1)


def head_biometry(mask: Bool[np.ndarray, "x y z"], spacing: Sequence[float | int]) -> Biometry:
    """Diameters, circumference and volume of a head.

    Args:
        mask: axes left to right, posterior to anterior, inferior to superior.
        spacing: mm an axis.
    """
    if not mask.any():
        return Biometry(math.nan, math.nan, math.nan, 0.0)
    # The widest slice: biparietal means from side to side.
    widths = mask.any(1).sum(0)
    level = int(np.round(np.flatnonzero(widths == widths.max()).mean()))
    level = level if mask[..., level].any() else int(np.argmax(widths))
    (found,) = regionprops(mask[..., level].astype(np.uint8), spacing=tuple(spacing[:2]))
    short, long = found.axis_minor_length, found.axis_major_length
    a, b = short / 2, long / 2
    h = ((a - b) / (a + b)) ** 2 if a + b else 0.0
    circumference = math.pi * (a + b) * (1 + 3 * h / (10 + math.sqrt(4 - 3 * h)))
    volume = float(mask.sum()) * math.prod(float(s) for s in spacing) / 1000
    return Biometry(float(short), float(long), circumference, volume)
