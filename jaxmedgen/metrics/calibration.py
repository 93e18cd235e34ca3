"""Whether predicted probabilities are the shares of right answers (Guo et al., ICML 2017)."""

import numpy as np
from jaxtyping import Float, Int

BINS = 15


def expected_calibration_error(
    probability: Float[np.ndarray, "*s k"],
    target: Int[np.ndarray, "*s"],
    *,
    bins: int = BINS,
) -> float:
    """ECE: ``sum_b n_b / n |accuracy_b - confidence_b|`` over bins of the largest probability.

    0 for a predictor that is right as often as it says; of images or of voxels alike. Most voxels
    of a scan are background of which a network is rightly sure: compare ECE on the same scans only.

    Args:
        probability: of the classes.
        target: class indices.
        bins: of equal width.

    Raises:
        ValueError: nothing to score, or shapes that do not fit.
    """
    if probability.shape[:-1] != target.shape or not target.size or bins < 1:
        raise ValueError(
            f"probability {probability.shape}, target {target.shape}, bins={bins}: give a class "
            "for each row of probabilities, and at least one bin"
        )
    confidence = probability.max(-1).ravel().astype(np.float64)
    right = (probability.argmax(-1) == target).ravel()
    number = np.minimum((confidence * bins).astype(int), bins - 1)
    excess = np.bincount(number, right - confidence, minlength=bins)
    return float(np.abs(excess).sum() / confidence.size)
