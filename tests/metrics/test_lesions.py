"""Lesion-wise detection on masks whose lesions are counted by hand."""

import math

import numpy as np
import pytest

from jaxmedgen.metrics.lesions import lesion_detection
from jaxmedgen.metrics.segmentation import evaluate_case

# Reference: a 2 x 2 square, one voxel apart from it, a row. Prediction: four lesions, of which one
# touches the square and two split the row.
REFERENCE = np.array(
    [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
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


def test_lesions_hang_together_by_corners_too():
    """The challenge counts 26 neighbours: one found voxel is enough for two that touch so."""
    reference = np.zeros((8, 8, 8), bool)
    reference[2, 2, 2] = reference[3, 3, 3] = reference[3, 4, 4] = True
    prediction = np.zeros_like(reference)
    prediction[2, 2, 2] = True
    assert lesion_detection(prediction, reference) == (1, 1, 1)
    assert lesion_detection(prediction[2], reference.any(0)) == (1, 1, 1)


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
