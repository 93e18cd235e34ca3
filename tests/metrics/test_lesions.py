"""Lesion-wise detection on masks whose lesions are counted by hand."""

import math

import numpy as np
import pytest

from jaxmedgen.metrics.lesions import lesion_detection
from jaxmedgen.metrics.segmentation import evaluate_case

# Reference: a 2 x 2 square, one voxel beside its corner (another lesion), a row. Prediction: three
# lesions, of which one touches the square and one splits the row.
REFERENCE = np.array(
    [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 1, 1],
    ],
    bool,
)
PREDICTION = np.array(
    [
        [0, 0, 0, 0, 1, 1],
        [0, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 1, 0],
    ],
    bool,
)


def test_lesions_are_counted_not_voxels():
    found = lesion_detection(PREDICTION, REFERENCE)
    assert found.recall == pytest.approx(2 / 3)
    assert found.precision == pytest.approx(3 / 4)
    assert found.f1 == pytest.approx(2 * (2 / 3) * (3 / 4) / (2 / 3 + 3 / 4))


def test_nothing_touched_and_nothing_there():
    empty = np.zeros_like(REFERENCE)
    assert (
        lesion_detection(np.roll(REFERENCE, 3, 1) & ~REFERENCE & ~PREDICTION, empty).precision == 0
    )
    assert math.isnan(lesion_detection(empty, REFERENCE).precision)
    assert math.isnan(lesion_detection(empty, empty).f1)


def test_cases_are_scored_by_lesions():
    """A missed structure scores 0; one that neither has is left out."""
    names = ("background", "lesion", "other", "absent")
    reference = REFERENCE + np.zeros(REFERENCE.shape, np.int32)
    reference[3, 5] = 2
    scores = evaluate_case(PREDICTION.astype(np.int32), reference, names, (1.0, 1.0))
    assert scores["lesion"]["lesion_recall"] == pytest.approx(2 / 3)
    assert scores["other"]["lesion_f1"] == scores["other"]["lesion_recall"] == 0
    assert math.isnan(scores["absent"]["lesion_f1"])
