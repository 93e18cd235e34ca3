"""Distances between sets of features: closed forms, invariances, known limits."""

import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from jaxmedgen.metrics.frechet import (
    Moments,
    feature_moments,
    fid,
    fid_by_group,
    fid_infinity,
    frechet_distance,
)
from jaxmedgen.metrics.inception_score import inception_score
from jaxmedgen.metrics.kernel_distance import kid, mmd, squared_distances
from jaxmedgen.metrics.manifold import manifold
from jaxmedgen.metrics.memorisation import memorisation


def correlated(rng, n, d, shift=0.0):
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + shift


def test_frechet_distance_of_gaussians_in_closed_form():
    """Commuting covariances: |m1 - m2|^2 + sum (sqrt a_i - sqrt b_i)^2."""
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    a, b, shift = rng.uniform(0, 3, 5), rng.uniform(0, 3, 5), rng.normal(size=5)
    one = Moments(np.zeros(5), basis @ np.diag(a) @ basis.T, 100)
    other = Moments(shift, basis @ np.diag(b) @ basis.T, 100)
    expected = shift @ shift + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert frechet_distance(one, other) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("count", [300, 12])  # 12 vectors of 20 dimensions: singular covariances
def test_fid_is_that_of_the_matrix_square_root(count):
    rng = np.random.default_rng(1)
    x, y = correlated(rng, count, 20), correlated(rng, count, 20, 0.3)
    c, d = np.cov(x.T), np.cov(y.T)
    root = scipy.linalg.sqrtm(c @ d)
    gap = x.mean(0) - y.mean(0)
    expected = gap @ gap + np.trace(c + d) - 2 * np.trace(root).real
    assert fid(x, y) == pytest.approx(expected, rel=1e-5)
    assert fid(x, x) == pytest.approx(0, abs=1e-6 * np.trace(c))
    assert fid(x[::-1], y[rng.permutation(count)]) == pytest.approx(fid(x, y), rel=1e-7)
    assert fid(x, y) == pytest.approx(fid(y, x), rel=1e-6)


def test_fid_infinity_takes_the_bias_away():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(4000, 16)), rng.normal(size=(300, 16))
    assert fid(x, y) > 0.1  # of equal distributions: bias alone
    assert abs(fid_infinity(x, y)) < 0.3 * fid(x, y)


def test_fid_by_group_and_its_errors():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(40, 3)), rng.normal(size=(40, 3))
    groups = ["a", "b"] * 20
    found = fid_by_group(x, y, groups, ["a"] * 39 + ["b"])
    assert set(found) == {"a"}  # one vector of b has no covariance
    assert found["a"] == pytest.approx(fid(x[::2], y[:39]))
    with pytest.raises(ValueError, match="3 and 4 dimensions"):
        fid(x, rng.normal(size=(9, 4)))
    with pytest.raises(ValueError, match="NaN"):
        feature_moments(np.full((4, 2), np.nan))


def test_kid_against_the_definition_and_near_zero_for_halves():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(30, 6)), rng.normal(0.5, 1, (30, 6))

    def k(a, b):
        return (a @ b / 6 + 1) ** 3

    pairs = [(i, j) for i in range(30) for j in range(30)]
    within = sum(k(s[i], s[j]) for s in (x, y) for i, j in pairs if i != j) / (30 * 29)
    between = sum(k(x[i], y[j]) for i, j in pairs) / 900
    assert kid(x, y).mean == pytest.approx(within - 2 * between, rel=1e-9)
    halves = rng.normal(size=(2000, 16))
    same = kid(halves[:1000], halves[1000:], subsets=20, subset_size=500)
    assert abs(same.mean) < 0.01
    assert kid(halves[:1000], halves[1000:] + 0.5, subsets=5).mean > 0.5
    with pytest.raises(ValueError, match="bandwidth=0"):
        mmd(x, y, bandwidth=0)


def test_mmd_of_a_gaussian_kernel_has_its_expectation():
    """Unbiased: 0 on average for equal distributions, and the closed form for shifted Gaussians."""
    rng = np.random.default_rng(5)
    draws = [
        mmd(rng.normal(size=(40, 2)), rng.normal(1, 1, (40, 2)), bandwidth=1.0) for _ in range(200)
    ]
    # E k(x, y) for x - y ~ N(m, 2 I) in two dimensions: exp(-|m|^2 / 6) / 3.
    expected = 2 * (1 / 3) - 2 * np.exp(-2 / 6) / 3
    assert np.mean(draws) == pytest.approx(expected, abs=0.02)
    x = rng.normal(size=(5, 3)) + 1e4
    assert np.allclose(squared_distances(x, x), scipy.spatial.distance.cdist(x, x) ** 2, atol=1e-6)


def test_inception_score_at_its_ends():
    onehot = np.eye(7)[np.arange(700) % 7]
    assert inception_score(onehot, splits=1).mean == pytest.approx(7)
    assert inception_score(np.full((50, 4), 0.25)).mean == pytest.approx(1)
    assert inception_score(np.eye(4)[np.zeros(50, int)]).mean == pytest.approx(1)
    with pytest.raises(ValueError, match="softmax"):
        inception_score(np.ones((3, 3)))


def test_manifold_measures_tell_collapse_from_noise():
    rng = np.random.default_rng(6)
    real = rng.normal(size=(300, 8))
    same = manifold(real, rng.normal(size=(300, 8)))
    assert min(same.precision, same.recall, same.coverage) > 0.85
    assert same.density == pytest.approx(1, abs=0.15)
    copies = manifold(real, real)
    assert copies.precision == copies.recall == copies.coverage == 1
    collapsed = manifold(real, real[:1] + 1e-3 * rng.normal(size=(300, 8)))
    assert collapsed.precision == 1 and collapsed.recall < 0.05 and collapsed.coverage < 0.1
    far = manifold(real, rng.normal(20, 1, (300, 8)))
    assert far.precision == far.density == far.coverage == 0
    with pytest.raises(ValueError, match="neighbours=5"):
        manifold(real[:5], real)


def test_memorisation_finds_copies():
    rng = np.random.default_rng(7)
    train, held_out, fresh = (rng.normal(size=(200, 6)) for _ in range(3))
    sound = memorisation(train, held_out, fresh)
    assert sound.distance_ratio == pytest.approx(1, abs=0.1)
    assert sound.copied < 0.05 and 0.4 < sound.authenticity < 0.9
    copy = memorisation(train, held_out, train + 1e-3 * rng.normal(size=train.shape))
    assert copy.distance_ratio < 0.05 and copy.copied == 1 and copy.authenticity == 0
    assert (copy.nearest == np.arange(200)).all()


def test_fid_rises_with_blur_and_noise():
    """Spearman >= 0.95 over levels, in features of a fixed random projection."""
    rng = np.random.default_rng(8)
    images = scipy.ndimage.gaussian_filter(rng.normal(size=(400, 12, 12)), (0, 1, 1)) * 4
    filters = rng.normal(size=(144, 16)) / 12

    def features(x):
        return np.maximum(x.reshape(400, -1) @ filters, 0)

    levels = np.arange(7)
    noise = rng.normal(size=images.shape)
    noisy = [fid(features(images), features(images + 0.4 * s * noise)) for s in levels]
    blurred = [
        fid(features(images), features(scipy.ndimage.gaussian_filter(images, (0, s / 3, s / 3))))
        for s in levels
    ]
    for found in (noisy, blurred):
        assert scipy.stats.spearmanr(levels, found).statistic >= 0.95
