"""Detection lesion by lesion, as the MICCAI WMH segmentation challenge scores it.

Kuijf et al., "Standardized assessment of automatic segmentation of white matter hyperintensities",
IEEE Transactions on Medical Imaging, 2019. Lesions are the parts of a mask that hang together by
faces, edges or corners (26 neighbours in 3D, 8 in 2D), as the challenge's ``getLesionDetection``
counts them.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from scipy import ndimage


class Detection(NamedTuple):
    """How many lesions are found.

    Attributes:
        recall: part of the reference's lesions with at least one predicted voxel.
        precision: part of the predicted lesions with at least one reference voxel.
        f1: harmonic mean of both; 0 where both are.
    """

    recall: float
    precision: float
    f1: float


def lesion_detection(
    prediction: Bool[np.ndarray, "*s"], reference: Bool[np.ndarray, "*s"]
) -> Detection:
    """Scores of a mask with lesions; NaN for the part that has no lesions to count.

    Args:
        prediction: mask, 2D or 3D.
        reference: mask.
    """
    recall, precision = _touched(reference, prediction), _touched(prediction, reference)
    total = recall + precision
    return Detection(recall, precision, 2 * recall * precision / total if total else 0.0)


def _touched(mask, by) -> float:
    """Part of the components of `mask` that hold a voxel of `by`."""
    parts, count = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))
    if not count:
        return float("nan")
    found = np.unique(parts[by])
    return float((found > 0).sum() / count)
