"""Agreement, scar measures and reader scores against published examples and by hand."""

import numpy as np
import pytest

from jaxmedgen.metrics.agreement import bland_altman, intraclass_correlation
from jaxmedgen.metrics.reader_study import fleiss_kappa, score_reader
from jaxmedgen.metrics.scar import scar_scores


def test_intraclass_correlation_of_shrout_and_fleiss():
    """Their table of six targets; judges 1 and 2 by the two-way formulas, worked out by hand."""
    judges = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9],
                       [6, 2, 4, 7]], float)  # fmt: skip
    x = judges[:, [0, 2]]
    n, k = x.shape
    rows = k * ((x.mean(1) - x.mean()) ** 2).sum() / (n - 1)
    columns = n * ((x.mean(0) - x.mean()) ** 2).sum() / (k - 1)
    residual = x - x.mean(1, keepdims=True) - x.mean(0) + x.mean()
    error = (residual**2).sum() / ((n - 1) * (k - 1))
    expected = (rows - error) / (rows + error + 2 * (columns - error) / n)
    assert intraclass_correlation(x[:, 0], x[:, 1]) == pytest.approx(expected)
    assert intraclass_correlation(x[:, 0], x[:, 0]) == pytest.approx(1)
    shifted = intraclass_correlation(x[:, 0] + 5, x[:, 0])  # absolute agreement, not consistency
    assert shifted < 0.3


def test_bland_altman_limits():
    found = bland_altman(np.array([1.0, 2, 3, 6]), np.array([0.0, 2, 2, 4]))
    difference = np.array([1.0, 0, 1, 2])
    assert found.bias == pytest.approx(1.0)
    assert found.high - found.low == pytest.approx(2 * 1.96 * difference.std(ddof=1))
    with pytest.raises(ValueError, match="1 measured"):
        bland_altman(np.ones(1), np.ones(1))


def test_scar_scores_of_two_subjects():
    """One with scar in one of two slices, one without; 2 x 3 mm pixels."""
    reference = np.zeros((3, 6, 6), int)
    reference[:, 1:5, 1:5] = 2
    reference[0, 1:3, 1:5] = 3  # 8 of 32 pixels of muscle of subject a
    prediction = reference.copy()
    prediction[0, 1, 1:5] = 2  # half of it missed
    prediction[2, 4, 4] = 3  # a false alarm in subject b
    found = scar_scores(list(prediction), list(reference), ["a", "a", "b"], (2.0, 3.0))
    assert found.dice_slice == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found.dice_subject == pytest.approx((2 / 3 + 0) / 2)
    assert (found.sensitivity, found.specificity) == (1.0, 0.0)
    assert found.volume.bias == pytest.approx(((4 - 8) * 6 + 1 * 6) / 2)
    assert found.share.bias == pytest.approx((100 * 4 / 32 - 100 * 8 / 32 + 100 / 16) / 2)


def test_reader_scores():
    truth = np.arange(40) % 2 == 0
    guess = score_reader(np.arange(40) % 4 < 2, truth)
    assert guess.accuracy.mean == 0.5 and guess.p_value == 1
    assert guess.sensitivity_index == pytest.approx(0, abs=1e-12)
    # Clopper-Pearson of 20 of 40, from the beta quantiles.
    assert guess.accuracy.low == pytest.approx(0.338, abs=1e-3)
    assert guess.accuracy.high == pytest.approx(0.662, abs=1e-3)
    perfect = score_reader(truth, truth)
    assert perfect.accuracy.mean == 1 and perfect.sensitivity_index > 3


def test_pairs_and_single_images_have_the_same_sensitivity_index():
    """Readers who see real images one deviation above generated ones."""
    rng = np.random.default_rng(0)
    real = rng.permutation(40_000) < 20_000
    single = score_reader(rng.normal(real, 1) > 0.4, real)
    left, right = rng.normal(real, 1), rng.normal(~real, 1)
    pairs = score_reader(left > right, real, pairs=True)
    assert single.sensitivity_index == pytest.approx(1, abs=0.05)
    assert pairs.sensitivity_index == pytest.approx(1, abs=0.05)
    assert pairs.accuracy.mean > single.accuracy.mean


def test_fleiss_kappa_of_the_textbook_example():
    """Fleiss' kappa of ten subjects, fourteen raters, five categories: 0.210."""
    counts = np.array([[0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0],
                       [2, 2, 8, 1, 1], [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2],
                       [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]])  # fmt: skip
    answers = np.stack([np.repeat(np.arange(5), row) for row in counts], 1)
    assert fleiss_kappa(answers) == pytest.approx(0.210, abs=5e-4)
    assert fleiss_kappa(np.array([[0, 1, 1], [0, 1, 1]])) == pytest.approx(1)
