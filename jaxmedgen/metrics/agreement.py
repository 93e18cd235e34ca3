"""Agreement of two measurements of the same subjects: Bland-Altman limits and ICC.

Bland & Altman, Lancet 1986; Shrout & Fleiss, Psychological Bulletin 1979 (ICC(2,1): two-way random
effects, absolute agreement, single measurement).
"""

import dataclasses

import numpy as np
from jaxtyping import Real


@dataclasses.dataclass(frozen=True)
class BlandAltman:
    """Bias and 95 % limits of agreement of `measured` minus `reference`, in their unit.

    Attributes:
        bias: mean difference.
        low: lower limit, ``bias - 1.96 SD``.
        high: upper limit.
        count: number of subjects.
    """

    bias: float
    low: float
    high: float
    count: int


def bland_altman(
    measured: Real[np.ndarray, " n"], reference: Real[np.ndarray, " n"]
) -> BlandAltman:
    """Bias and limits of agreement.

    Raises:
        ValueError: fewer than two subjects or unequal lengths.
    """
    measured, reference = _paired(measured, reference)
    difference = measured - reference
    bias, spread = float(difference.mean()), 1.96 * float(difference.std(ddof=1))
    return BlandAltman(bias, bias - spread, bias + spread, len(difference))


def intraclass_correlation(
    measured: Real[np.ndarray, " n"], reference: Real[np.ndarray, " n"]
) -> float:
    """ICC(2,1) of two raters; NaN where neither subjects nor raters differ.

    Raises:
        ValueError: fewer than two subjects or unequal lengths.
    """
    ratings = np.stack(_paired(measured, reference), 1)
    n, k = ratings.shape
    grand = ratings.mean()
    rows = k * ((ratings.mean(1) - grand) ** 2).sum() / (n - 1)
    columns = n * ((ratings.mean(0) - grand) ** 2).sum() / (k - 1)
    total = ((ratings - grand) ** 2).sum()
    error = (total - (n - 1) * rows - (k - 1) * columns) / ((n - 1) * (k - 1))
    denominator = rows + (k - 1) * error + k * (columns - error) / n
    return float((rows - error) / denominator) if denominator > 0 else float("nan")


def _paired(measured, reference):
    measured, reference = np.asarray(measured, np.float64), np.asarray(reference, np.float64)
    if len(measured) != len(reference) or len(measured) < 2:
        raise ValueError(
            f"{len(measured)} measured and {len(reference)} reference values: give the same two or "
            "more subjects in both"
        )
    return measured, reference
