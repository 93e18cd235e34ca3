"""Compactness, generalisation and specificity against loops and scipy."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from jaxmedgen.metrics import shape_model

RNG = np.random.default_rng(0)


def test_distances_are_scipys():
    a, b = RNG.uniform(size=(2, 6, 5, 4)) > 0.5
    found = shape_model.dice_distances(a, b[:4])
    np.testing.assert_allclose(
        found, cdist(a.reshape(6, -1), b[:4].reshape(4, -1), "dice"), atol=1e-6
    )
    np.testing.assert_allclose(
        shape_model.dice(a, b), 1 - np.diag(shape_model.dice_distances(a, b))
    )
    x, y = RNG.normal(size=(2, 3, 7, 2))
    expected = [[np.sqrt(((p - q) ** 2).sum(-1).mean()) for q in y] for p in x]
    np.testing.assert_allclose(shape_model.rms_distances(x, y), expected)
    empty = np.zeros((1, 5, 4), bool)
    with pytest.raises(ValueError, match="masks 0 and 0 are both empty"):
        shape_model.dice_distances(empty, empty)


def test_the_three_measures():
    np.testing.assert_allclose(shape_model.compactness(np.array([3.0, 1.0])), [0.75, 1])
    np.testing.assert_allclose(shape_model.compactness(np.array([3.0, 1.0]), 8.0), [0.375, 0.5])
    training = RNG.uniform(size=(300, 40)) > 0.5
    samples = np.concatenate([training[:2], ~training[:1]])
    found = shape_model.specificity(samples, training)
    assert found[0] == found[1] == 0 and found[2] > 0
    np.testing.assert_allclose(shape_model.generalisation(training[:3], training[:3]), 0, atol=1e-6)
    assert shape_model.generalisation(samples[2:], training[:1])[0] == 1
    with pytest.raises(ValueError, match="give one each"):
        shape_model.generalisation(samples, training)
