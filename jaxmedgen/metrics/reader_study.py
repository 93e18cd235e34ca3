"""How well readers tell generated from real images.

Accuracy with its exact binomial interval (Clopper & Pearson, Biometrika 1934), sensitivity index d'
(Green & Swets, 1966; log-linear correction of Hautus, 1995) and agreement among readers (Fleiss,
Psychological Bulletin 1971).
"""

import dataclasses
import math

import numpy as np
import scipy.stats
from jaxtyping import Bool, Int

from jaxmedgen.metrics.statistics import Interval


@dataclasses.dataclass(frozen=True)
class ReaderScore:
    """One reader.

    Attributes:
        accuracy: share of right answers with its exact 95 % interval; 0.5 is guessing.
        sensitivity_index: d', 0 for guessing; positive where real images are told from generated.
        p_value: two-sided exact test of guessing.
    """

    accuracy: Interval
    sensitivity_index: float
    p_value: float


def score_reader(
    says_real: Bool[np.ndarray, " n"], is_real: Bool[np.ndarray, " n"], *, pairs: bool = False
) -> ReaderScore:
    """Scores one reader's yes-or-no answers.

    Args:
        says_real: that the image is real, or of a pair the left one.
        is_real: whether it is.
        pairs: one of two images was to be chosen. Two images give sqrt(2) times as much to go by,
            and d' is divided by it, so that it is the same measure (Macmillan & Creelman, 2005).

    Raises:
        ValueError: no answers, unequal lengths, or images of one kind only.
    """
    if len(says_real) != len(is_real) or not len(is_real):
        raise ValueError(f"{len(says_real)} answers for {len(is_real)} images: give one an image")
    real = int(is_real.sum())
    if real in (0, len(is_real)):
        raise ValueError("all images are of one kind: show real and generated ones")
    right = int((says_real == is_real).sum())
    test = scipy.stats.binomtest(right, len(is_real))
    interval = test.proportion_ci(method="exact")
    hits = (int(says_real[is_real].sum()) + 0.5) / (real + 1)
    false_alarms = (int(says_real[~is_real].sum()) + 0.5) / (len(is_real) - real + 1)
    return ReaderScore(
        Interval(
            right / len(is_real), float(interval.low), float(interval.high), len(is_real), "exact"
        ),
        float(scipy.stats.norm.ppf(hits) - scipy.stats.norm.ppf(false_alarms))
        / (math.sqrt(2) if pairs else 1.0),
        float(test.pvalue),
    )


def fleiss_kappa(answers: Int[np.ndarray, "readers images"]) -> float:
    """Chance-corrected agreement of readers on categories; 1 is full, 0 chance, NaN undefined.

    Raises:
        ValueError: fewer than two readers or no image.
    """
    readers, images = answers.shape
    if readers < 2 or images < 1:
        raise ValueError(f"{readers} reader(s) and {images} image(s): kappa needs 2 and 1 at least")
    counts = np.stack([(answers == c).sum(0) for c in np.unique(answers)], 1)
    agreement = ((counts**2).sum(1) - readers) / (readers * (readers - 1))
    chance = float(((counts.sum(0) / (readers * images)) ** 2).sum())
    return (float(agreement.mean()) - chance) / (1 - chance) if chance < 1 else math.nan
