"""Scores of a classifier of two classes, with intervals that hold for small test sets."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score


@dataclasses.dataclass(frozen=True)
class ClassificationScores:
    """Class 1 is the disease.

    Attributes:
        accuracy: share of right answers.
        interval: Wilson's 95 % interval of it.
        sensitivity: share of the diseased that are found; NaN without any.
        specificity: share of the healthy that are found healthy; NaN without any.
        auc: area under the receiver operating characteristic; NaN with one class.
        balanced_accuracy: mean of sensitivity and specificity, the expected accuracy in batches
            that are balanced by class; NaN with one class.
    """

    accuracy: float
    interval: tuple[float, float]
    sensitivity: float
    specificity: float
    auc: float
    balanced_accuracy: float


def classification_scores(
    probability: Float[np.ndarray, " n"], target: Int[np.ndarray, " n"]
) -> ClassificationScores:
    """Scores of the answer "diseased where the probability exceeds 1/2".

    Args:
        probability: of class 1.
        target: 0 or 1.

    Raises:
        ValueError: no subjects, or other classes.
    """
    if not target.size or not np.isin(target, (0, 1)).all():
        raise ValueError(f"target has the classes {np.unique(target).tolist()}: give 0 and 1")
    answer = probability > 0.5
    right = answer == (target == 1)
    sensitivity, specificity = _share(right[target == 1]), _share(right[target == 0])
    return ClassificationScores(
        accuracy=float(right.mean()),
        interval=wilson_interval(int(right.sum()), right.size),
        sensitivity=sensitivity,
        specificity=specificity,
        auc=float(roc_auc_score(target, probability)) if np.ptp(target) else float("nan"),
        balanced_accuracy=(sensitivity + specificity) / 2,
    )


def wilson_interval(hits: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share (E. B. Wilson, 1927); never empty, also at 0 and at 1."""
    found = binomtest(hits, trials).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def _share(right: Bool[np.ndarray, " n"]) -> float:
    return float(right.mean()) if right.size else float("nan")
