"""D score on importances with known answers; probes and importances on data with known factors."""

import numpy as np
import pytest

from jaxmedgen.metrics import disentanglement as metrics
from jaxmedgen.metrics.groupwise import mean_pairwise_dice, voxelwise_deviation


def test_d_score_of_known_importances():
    assert metrics.d_score(np.eye(3)) == pytest.approx(1)
    assert metrics.d_score(np.ones((4, 3))) == pytest.approx(0)
    # One latent of weight 3 that matters to one factor, one of weight 1 that matters to two of
    # four equally (1 - log_4 2 = 1/2): (3 * 1 + 1 * 1/2) / 4.
    importance = np.array([[3.0, 0, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 0]])
    assert metrics.d_score(importance) == pytest.approx(3.5 / 4)
    with pytest.raises(ValueError, match="two or more factors"):
        metrics.d_score(np.ones((2, 1)))


def test_importances_find_the_factor_of_each_latent():
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(0, 3, 600), rng.normal(size=600), rng.normal(size=600)], 1)
    mixing = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0.7, 0.7]])
    latents = factors @ mixing.T + 0.05 * rng.normal(size=(600, 3))
    found = metrics.importances(latents, factors, (True, False, False))
    np.testing.assert_allclose(found.sum(0), 1, rtol=1e-6)
    assert found[0, 0] > 0.95 and found[1, 1] > 0.95 and found[2, 2] > 0.5
    grouped = metrics.group_importances(found, ((0,), (1, 2)))
    np.testing.assert_allclose(grouped[:, 1], found[:, 1:].mean(1))
    assert metrics.d_score(grouped) > 0.9 > metrics.d_score(found)
    accuracy = metrics.probe_accuracy(
        latents[:400, :1], factors[:400, 0].astype(int), latents[400:, :1],
        factors[400:, 0].astype(int),
    )  # fmt: skip
    assert accuracy > 0.99


def test_pairwise_dice_by_hand():
    labels = np.array([[1, 1, 2, 0], [1, 0, 2, 0], [0, 0, 0, 0]])
    # class 1: pairs 2/3, 0, 0; class 2: 1, 0, 0
    assert mean_pairwise_dice(labels, 3) == pytest.approx((2 / 3 + 1) / 6)
    assert voxelwise_deviation(np.array([[0.0, 1.0], [2.0, 1.0]])) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="two or more"):
        mean_pairwise_dice(labels[:1], 3)
