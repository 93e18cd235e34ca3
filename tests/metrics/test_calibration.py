"""ECE against its definition, bin by bin."""

import itertools

import numpy as np
import pytest

from jaxmedgen.metrics.calibration import expected_calibration_error


def test_sure_and_right_is_calibrated_and_sure_and_wrong_is_not():
    target = np.array([[0, 1], [2, 1]])
    sure = np.eye(3, dtype=np.float32)[target]
    assert expected_calibration_error(sure, target) == 0
    assert expected_calibration_error(sure, (target + 1) % 3) == 1


def test_bins_by_hand():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(500, 4)) * 2
    probability = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    target = rng.integers(0, 4, 500)
    expected, edges = 0.0, np.linspace(0, 1, 11)
    confidence, right = probability.max(1), probability.argmax(1) == target
    for low, high in itertools.pairwise(edges):
        inside = (confidence >= low) & (confidence < high)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            expected += inside.mean() * gap
    found = expected_calibration_error(probability, target, bins=10)
    assert found == pytest.approx(expected, abs=1e-6)


def test_drawn_from_its_own_probabilities_it_is_nearly_calibrated():
    rng = np.random.default_rng(1)
    first = rng.uniform(size=20000)
    probability = np.stack([first, 1 - first], -1).astype(np.float32)
    target = (rng.uniform(size=20000) > first).astype(int)
    assert expected_calibration_error(probability, target) < 0.02
    with pytest.raises(ValueError, match="at least one bin"):
        expected_calibration_error(probability, target, bins=0)
