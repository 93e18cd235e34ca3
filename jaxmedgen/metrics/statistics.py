"""Statistics of a comparison on few cases: intervals, paired differences, corrected p-values.

The independent unit is the **case** (patient), never the seed: scores are averaged over seeds
first, and cases are resampled or flipped. What training noise adds is shown beside it, as the
spread of the difference from seed to seed.

Sources: Efron, "Better bootstrap confidence intervals", 1987 (BCa); Holm, "A simple sequentially
rejective multiple test procedure", 1979; Kerby, "The simple difference formula", 2014
(matched-pairs rank-biserial correlation).
"""

import dataclasses
import math
import warnings
from collections.abc import Sequence

import numpy as np
import scipy.stats
from jaxtyping import Float, Real

EXACT_CASES = 14
"""Up to this many cases all 2^n sign flips are tried (16384); beyond, a random sample of them."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval.

    Attributes:
        mean: the sample mean.
        low: lower end; the mean itself where no interval can be given (n = 1).
        high: upper end.
        count: number of independent values.
        method: ``BCa``, ``percentile``, ``constant`` (all values equal) or ``single`` (n = 1).
    """

    mean: float
    low: float
    high: float
    count: int
    method: str


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """Treatment minus reference, paired by case.

    Attributes:
        interval: mean difference over cases with its bootstrap interval.
        p_value: two-sided sign-flip permutation test over cases, not corrected.
        effect_size: matched-pairs rank-biserial correlation in [-1, 1]; 1: better in every case.
        seed_sd: standard deviation over seeds of the mean difference; 0 for one seed.
        differences: one difference a case, averaged over seeds.
    """

    interval: Interval
    p_value: float
    effect_size: float
    seed_sd: float
    differences: tuple[float, ...]


def mean_interval(
    values: Sequence[float | int] | Real[np.ndarray, " n"],
    *,
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> Interval:
    """Bootstrap interval of the mean of independent values.

    BCa (bias-corrected and accelerated); the percentile interval where BCa is undefined. NaN values
    are left out. The same values and seed give the same interval.

    Raises:
        ValueError: no value is left.
    """
    sample = np.asarray(values, np.float64)
    sample = sample[~np.isnan(sample)]
    if sample.size == 0:
        raise ValueError("no values to average: all are NaN or there are none")
    # np.mean of equal numbers can round away from them.
    mean = float(np.clip(sample.mean(), sample.min(), sample.max()))
    if sample.size == 1:
        return Interval(mean, mean, mean, 1, "single")
    if np.ptp(sample) <= 1e-12 * max(1.0, abs(mean)):
        return Interval(mean, mean, mean, sample.size, "constant")
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)
            low, high = scipy.stats.bootstrap(
                (sample,),
                np.mean,
                confidence_level=confidence,
                n_resamples=resamples,
                method=method,
                rng=np.random.default_rng(seed),
            ).confidence_interval
        if math.isfinite(low) and math.isfinite(high):
            return Interval(mean, float(low), float(high), sample.size, method)
    raise AssertionError(f"the percentile interval of {sample} is not finite")


def paired_test(
    differences: Sequence[float | int] | Real[np.ndarray, " n"], *, seed: int = 0
) -> float:
    """Two-sided p-value of a zero mean difference: sign-flip permutation test.

    Exact up to `EXACT_CASES` differences: p = share of the 2^n sign patterns whose mean is at least
    as far from zero. Beyond, 19999 random patterns, counted with the observed one. It needs no
    normality and no more than differences that are symmetric about zero under the null.
    """
    sample = _finite(differences)
    if not sample.any():
        return 1.0
    exact = sample.size <= EXACT_CASES
    if exact:
        signs = (np.arange(2**sample.size)[:, None] >> np.arange(sample.size)) & 1
    else:
        signs = np.random.default_rng(seed).integers(0, 2, (19999, sample.size))
    means = np.abs((2 * signs - 1) @ sample)
    # Rounding must not drop patterns that tie with the observed one.
    extreme = int(np.sum(means >= abs(sample.sum()) - 1e-9 * np.abs(sample).sum()))
    return extreme / len(means) if exact else (extreme + 1) / (len(means) + 1)


def smallest_p_value(cases: int) -> float:
    """The smallest p-value that `paired_test` can give for so many cases (all signs equal)."""
    return 2 / 2**cases if cases <= EXACT_CASES else 1 / 20000


def wilcoxon_test(differences: Sequence[float | int] | Real[np.ndarray, " n"]) -> float:
    """Two-sided Wilcoxon signed-rank p-value; 1 where all differences are zero."""
    sample = _finite(differences)
    if not sample.any():
        return 1.0
    return float(scipy.stats.wilcoxon(sample, zero_method="pratt").pvalue)


def rank_biserial(differences: Sequence[float | int] | Real[np.ndarray, " n"]) -> float:
    """Matched-pairs rank-biserial correlation (W+ - W-) / (W+ + W-), in [-1, 1].

    W+ and W- sum the ranks of the absolute non-zero differences by sign. 0 if all are zero.
    """
    sample = _finite(differences)
    sample = sample[sample != 0]
    if sample.size == 0:
        return 0.0
    ranks = scipy.stats.rankdata(np.abs(sample))
    return float(np.sum(ranks * np.sign(sample)) / np.sum(ranks))


def holm(p_values: Sequence[float | int]) -> tuple[float, ...]:
    """Holm's step-down correction: adjusted p-values in the order given.

    The i-th smallest of m p-values becomes max over j <= i of min(1, (m - j + 1) p_(j)); comparing
    them with alpha controls the chance of any false rejection among the m tests.

    Raises:
        ValueError: a value is not in [0, 1].
    """
    bad = [p for p in p_values if not 0 <= p <= 1]
    if bad:
        raise ValueError(f"p-values {bad} are not in [0, 1]")
    order = np.argsort(p_values, kind="stable")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * float(p_values[index])))
        adjusted[index] = largest
    return tuple(adjusted)


def paired_difference(
    treatment: Float[np.ndarray, "s cases"],
    reference: Float[np.ndarray, "r cases"],
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedDifference:
    """Treatment minus reference over the same cases, each with its own number of seeds.

    Seeds are averaged per case first, so that n is the number of cases whatever the number of
    seeds. NaN (a case not scored under one seed) is left out of that average; a case with no score
    in one arm is left out of both.

    Args:
        treatment: scores, one row a seed, one column a case.
        reference: scores of the arm compared with, columns in the same order.
        confidence: level of the interval.
        seed: of the bootstrap and of sampled permutations.

    Raises:
        ValueError: no case is scored in both arms.
    """
    differences = seed_mean(treatment) - seed_mean(reference)
    scored = ~np.isnan(differences)
    if not scored.any():
        raise ValueError("no case is scored in both arms: there is nothing to compare")
    differences = differences[scored]
    # Seeds of two arms are not paired: their variances add.
    by_seed = [np.nanmean(arm[:, scored], axis=1) for arm in (treatment, reference)]
    spread = math.sqrt(sum(float(np.var(m, ddof=1)) for m in by_seed if len(m) > 1))
    return PairedDifference(
        interval=mean_interval(differences, confidence=confidence, seed=seed),
        p_value=paired_test(differences, seed=seed),
        effect_size=rank_biserial(differences),
        seed_sd=spread,
        differences=tuple(float(d) for d in differences),
    )


def seed_mean(scores: Float[np.ndarray, "s cases"]) -> Float[np.ndarray, " cases"]:
    """Mean over seeds of every case; NaN for a case that no seed scored."""
    scored = ~np.isnan(scores)
    count = scored.sum(axis=0)
    total = np.where(scored, scores, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _finite(values: Sequence[float | int] | Real[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    sample = np.asarray(values, np.float64)
    if sample.size == 0 or not np.isfinite(sample).all():
        raise ValueError(f"differences must be finite and at least one, got {sample.tolist()}")
    return sample
