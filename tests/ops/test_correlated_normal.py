"""Correlations from ranks, and the moments of correlated draws."""

import numpy as np
import pytest

from jaxmedgen.ops.correlated_normal import (
    LatentStatistics,
    draw_latents,
    kendall_correlation,
    latent_statistics,
    nearest_correlation,
    pearson_from_kendall,
    rank_correlation,
)

RNG = np.random.default_rng(0)


def ar(size, rho):
    """An autoregressive correlation matrix."""
    place = np.arange(size)
    return rho ** np.abs(place[:, None] - place)


def test_kendall_agrees_with_counted_pairs():
    samples = RNG.standard_normal((30, 3))
    samples[:, 2] = 1.0  # constant: nothing to correlate with
    signs = np.sign(samples[:, None] - samples[None])
    upper = np.triu_indices(30, 1)
    expected = (signs[..., 0] * signs[..., 1])[upper].mean()
    tau = kendall_correlation(samples)
    assert tau[0, 1] == pytest.approx(expected)
    assert tau[0, 2] == 0 and tau[2, 2] == 1


def test_greiners_relation_recovers_the_correlation_of_normals():
    truth = ar(4, 0.7)
    samples = RNG.multivariate_normal(np.zeros(4), truth, 3000)
    np.testing.assert_allclose(rank_correlation(np.exp(samples)), truth, atol=0.04)


def test_few_subjects_give_a_matrix_that_must_be_projected():
    """More variables than observations: pairwise estimates are indefinite, Cholesky fails."""
    raw = pearson_from_kendall(kendall_correlation(RNG.standard_normal((6, 20))))
    assert np.linalg.eigvalsh(raw).min() < 0
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.cholesky(raw)
    projected = nearest_correlation(raw)
    np.linalg.cholesky(projected)
    np.testing.assert_allclose(np.diag(projected), 1)
    good = ar(5, 0.5)
    np.testing.assert_allclose(nearest_correlation(good), good, atol=1e-12)


@pytest.fixture(scope="module")
def statistics():
    mean = RNG.normal(0, 3, (5, 3))
    deviation = RNG.uniform(0.5, 2, (5, 3))
    wide = 6 * deviation
    return LatentStatistics(mean, deviation, mean - wide, mean + wide, ar(5, 0.8), ar(3, -0.5))


def test_correlated_draws_have_the_wanted_moments(statistics):
    """Means and deviations of every entry, and the Kronecker product of both correlations."""
    drawn = draw_latents(np.random.default_rng(1), statistics, 20000)
    np.testing.assert_allclose(drawn.mean(0), statistics.mean, atol=0.06)
    np.testing.assert_allclose(drawn.std(0) / statistics.deviation, 1, atol=0.03)
    standard = ((drawn - statistics.mean) / statistics.deviation).reshape(len(drawn), -1)
    expected = np.kron(statistics.rows, statistics.columns)
    np.testing.assert_allclose(np.corrcoef(standard.T), expected, atol=0.04)


def test_correlating_raw_values_moves_their_means(statistics):
    """What the reference does: the factor multiplies the means as well."""
    drawn = draw_latents(np.random.default_rng(1), statistics, 20000, "raw")
    rows, columns = (np.linalg.cholesky(c) for c in (statistics.rows, statistics.columns))
    np.testing.assert_allclose(drawn.mean(0), rows @ statistics.mean @ columns.T, atol=0.1)
    assert np.abs((drawn.mean(0) - statistics.mean) / statistics.deviation).max() > 1


def test_draws_stay_within_what_was_seen():
    subjects = RNG.standard_normal((12, 6, 3))
    statistics = latent_statistics(subjects, RNG.standard_normal((1, 6, 3)))
    for kind in ("moments", "none"):
        drawn = draw_latents(np.random.default_rng(2), statistics, 500, kind)
        assert (drawn >= statistics.low - 1e-6).all() and (drawn <= statistics.high + 1e-6).all()
    independent = draw_latents(np.random.default_rng(2), statistics, 4000, "none")
    flat = independent.reshape(4000, -1)
    off = np.corrcoef(flat.T) - np.eye(flat.shape[1])
    assert np.abs(off).max() < 0.08
    with pytest.raises(ValueError, match="correlate='some'"):
        draw_latents(RNG, statistics, 1, "some")
