"""Intervals, tests and corrections against known values and scipy."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from jaxmedgen.metrics import statistics


def test_interval_covers_the_mean_at_its_level():
    rng = np.random.default_rng(0)
    covered = [
        i.low <= 1.0 <= i.high
        for i in (
            statistics.mean_interval(rng.exponential(size=25), resamples=499) for _ in range(200)
        )
    ]
    assert 0.88 <= np.mean(covered) <= 0.98


def test_interval_of_a_large_sample_is_the_normal_one():
    values = np.random.default_rng(1).normal(2, 3, 2000)
    found = statistics.mean_interval(values, resamples=1999)
    half = 1.96 * values.std(ddof=1) / math.sqrt(2000)
    assert found.method == "BCa"
    assert found.high - found.low == pytest.approx(2 * half, rel=0.08)
    assert found == statistics.mean_interval(values, resamples=1999)


@pytest.mark.parametrize(
    ("values", "method"),
    [([0.7], "single"), ([0.7, 0.7, 0.7], "constant"), ([0.7, math.nan], "single")],
)
def test_degenerate_samples_give_the_mean(values, method):
    found = statistics.mean_interval(values)
    assert (found.mean, found.low, found.high, found.method) == (0.7, 0.7, 0.7, method)


def test_two_values_give_finite_ends():
    found = statistics.mean_interval([0.2, 0.4])
    assert 0.2 <= found.low <= 0.3 <= found.high <= 0.4
    with pytest.raises(ValueError, match="no values"):
        statistics.mean_interval([math.nan])


def test_sign_flips_agree_with_enumeration_and_scipy():
    sample = np.array([0.3, -0.1, 0.25, 0.4, 0.05, -0.2])
    flips = [abs(np.dot(s, sample)) for s in itertools.product((-1, 1), repeat=6)]
    expected = np.mean(np.array(flips) >= abs(sample.sum()) - 1e-12)
    assert statistics.paired_test(sample) == expected
    other = scipy.stats.permutation_test(
        (sample, np.zeros(6)), lambda x, y: np.mean(x - y), permutation_type="samples"
    )
    assert statistics.paired_test(sample) == pytest.approx(other.pvalue)


def test_sampled_permutations_approach_the_t_test():
    sample = np.random.default_rng(3).normal(0.4, 1, 40)
    expected = scipy.stats.ttest_1samp(sample, 0).pvalue
    assert statistics.paired_test(sample) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("cases", [1, 3, 6, 20])
def test_smallest_p_value_is_reached(cases):
    sample = np.full(cases, 0.1)
    assert statistics.paired_test(sample) == pytest.approx(statistics.smallest_p_value(cases))
    assert statistics.paired_test(0 * sample) == 1.0


def test_wilcoxon_of_conover():
    # Conover, Practical Nonparametric Statistics, the twins of scipy's documentation.
    sample = [6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75]
    assert statistics.wilcoxon_test(sample) == pytest.approx(0.0413, abs=1e-4)
    assert statistics.wilcoxon_test([0.0, 0.0]) == 1.0


def test_rank_biserial():
    assert statistics.rank_biserial([1.0, 2.0, 3.0]) == 1
    assert statistics.rank_biserial([-1.0, 0.0]) == -1
    assert statistics.rank_biserial([1.0, -2.0, 3.0]) == pytest.approx((1 - 2 + 3) / 6)
    assert statistics.rank_biserial([0.0]) == 0


def test_holm():
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert statistics.holm([0.9, 0.8]) == (1.0, 1.0)
    assert statistics.holm([0.03]) == (0.03,)
    assert statistics.holm([]) == ()
    with pytest.raises(ValueError, match=r"\[1\.5\] are not in"):
        statistics.holm([1.5])


def test_seeds_are_not_cases():
    rng = np.random.default_rng(0)
    reference = rng.uniform(0.5, 0.9, (3, 6))
    treatment = reference.mean(0) + 0.1 + rng.normal(0, 0.02, (5, 6))
    found = statistics.paired_difference(treatment, reference)
    assert found.interval.count == 6
    assert found.p_value == statistics.smallest_p_value(6) == 2 / 64
    assert found.effect_size == 1
    assert found.interval.mean == pytest.approx((treatment.mean(0) - reference.mean(0)).mean())
    # Repeating every seed adds no evidence.
    again = statistics.paired_difference(np.tile(treatment, (4, 1)), np.tile(reference, (4, 1)))
    assert again.p_value == found.p_value
    assert again.interval.low == pytest.approx(found.interval.low)


def test_seed_spread_adds_over_arms():
    treatment = np.array([[0.5, 0.6], [0.7, 0.8]])
    reference = np.array([[0.4, 0.4], [0.4, 0.4]])
    found = statistics.paired_difference(treatment, reference)
    assert found.seed_sd == pytest.approx(np.std([0.55, 0.75], ddof=1))
    assert statistics.paired_difference(treatment[:1], reference).seed_sd == 0


def test_unscored_cases_leave_both_arms():
    treatment = np.array([[0.5, math.nan, 0.7], [0.7, math.nan, math.nan]])
    reference = np.array([[0.4, 0.1, 0.4]])
    found = statistics.paired_difference(treatment, reference)
    np.testing.assert_allclose(found.differences, [0.2, 0.3])
    with pytest.raises(ValueError, match="no case is scored in both"):
        statistics.paired_difference(treatment[:, 1:2], reference[:, 1:2])


def test_one_case_gives_numbers():
    found = statistics.paired_difference(np.array([[0.6]]), np.array([[0.5]]))
    assert found.p_value == 1.0 and found.effect_size == 1.0
    assert found.interval.low == found.interval.high == pytest.approx(0.1)
