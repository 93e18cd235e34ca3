"""How much samples of a volume vary, and whether they vary where the prediction is wrong.

The uncertainty U of a voxel is the standard deviation of its probability over samples.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.stats import spearmanr

SUPPORT = 0.01
"""Voxels whose uncertainty or error exceeds this belong to the support of the correlation."""


def uncertainty_map(samples: Float[np.ndarray, " n *s"]) -> Float[np.ndarray, " *s"]:
    """Standard deviation over samples.

    Raises:
        ValueError: fewer than two samples.
    """
    if len(samples) < 2:
        raise ValueError(f"{len(samples)} sample(s) have no deviation: give two or more")
    return samples.std(0)


def boundary_band(mask: Bool[np.ndarray, "*s"], voxels: int = 2) -> Bool[np.ndarray, "*s"]:
    """Voxels within so many steps of the mask's boundary, on both sides."""
    if not mask.any() or mask.all():
        return np.zeros_like(mask)
    element = ndimage.generate_binary_structure(mask.ndim, 1)
    grown = ndimage.binary_dilation(mask, element, voxels)
    return grown & ~ndimage.binary_erosion(mask, element, voxels)


def error_correlation(
    uncertainty: Float[np.ndarray, "*s"], error: Float[np.ndarray, "*s"]
) -> float:
    """Spearman's rho of uncertainty and absolute error where either is there; NaN if nowhere.

    Most voxels of a volume are certain and right; they would decide the correlation.
    """
    support = (uncertainty > SUPPORT) | (error > SUPPORT)
    if support.sum() < 3 or np.ptp(uncertainty[support]) == 0 or np.ptp(error[support]) == 0:
        return float("nan")
    return float(spearmanr(uncertainty[support], error[support]).statistic)


def covers(
    samples: Sequence[float | int] | Float[np.ndarray, " n"],
    truth: float | int,
    share: float = 0.9,
) -> bool:
    """Whether the central `share` of the samples contains a true value.

    Raises:
        ValueError: a share that is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"share={share}: give a number between 0 and 1")
    low, high = np.quantile(np.asarray(samples), [(1 - share) / 2, (1 + share) / 2])
    return bool(low <= truth <= high)
