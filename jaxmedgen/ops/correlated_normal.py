"""Correlated random matrices with given means, deviations and ranges: latent vectors of a stack.

A pseudo-subject is a matrix ``P [n, d]``, a latent vector for each of n slices. Slices drawn one by
one do not stack to a heart; neighbours must be correlated. Rank correlations (Kendall's tau) are
robust against outliers; for normal variables the product-moment correlation is ``sin(pi tau / 2)``
(Greiner's relation). Matrices estimated pair by pair need not be positive semidefinite and are
projected before they are factored.

Source of the task: Amirrajab et al., "Pathology synthesis of 3D-consistent cardiac MR images using
2D VAEs and GANs", MELBA 2023:010. On the host, in float64.
"""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import stats

Correlate = Literal["moments", "raw", "none"]
CORRELATE: tuple[Correlate, ...] = ("moments", "raw", "none")

EIGENVALUE_FLOOR = 1e-6


@dataclasses.dataclass(frozen=True)
class LatentStatistics:
    """What is drawn: moments and ranges of every entry, correlations of rows and columns.

    Attributes:
        mean: ``[n, d]``.
        deviation: ``[n, d]``.
        low: least value seen, ``[n, d]``.
        high: largest value seen, ``[n, d]``.
        rows: correlation of the n rows (slices), positive definite.
        columns: correlation of the d columns (latent dimensions), positive definite.
    """

    mean: Float[np.ndarray, "n d"]
    deviation: Float[np.ndarray, "n d"]
    low: Float[np.ndarray, "n d"]
    high: Float[np.ndarray, "n d"]
    rows: Float[np.ndarray, "n n"]
    columns: Float[np.ndarray, "d d"]


def kendall_correlation(samples: Float[np.ndarray, "m p"]) -> Float[np.ndarray, "p p"]:
    """Kendall's tau-b of all pairs of variables; constant variables correlate with nothing.

    Args:
        samples: m observations of p variables.

    Raises:
        ValueError: fewer than two observations.
    """
    count, variables = samples.shape
    if count < 2:
        raise ValueError(f"{count} observations: a correlation needs at least two")
    tau = np.eye(variables)
    for i in range(variables):
        for j in range(i):
            value = stats.kendalltau(samples[:, i], samples[:, j]).statistic
            tau[i, j] = tau[j, i] = 0.0 if np.isnan(value) else value
    return tau


def pearson_from_kendall(tau: Float[np.ndarray, "p p"]) -> Float[np.ndarray, "p p"]:
    """``sin(pi tau / 2)``, the correlation of normal variables that have this tau."""
    return np.sin(0.5 * np.pi * tau)


def nearest_correlation(
    matrix: Float[np.ndarray, "p p"], floor: float | int = EIGENVALUE_FLOOR
) -> Float[np.ndarray, "p p"]:
    """A positive definite matrix with unit diagonal: eigenvalues below `floor` are raised to it."""
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    raised = (vectors * np.maximum(values, floor)) @ vectors.T
    scale = 1 / np.sqrt(np.diag(raised))
    return raised * scale[:, None] * scale


def rank_correlation(samples: Float[np.ndarray, "m p"]) -> Float[np.ndarray, "p p"]:
    """Correlation matrix from Kendall's tau, positive definite, unit diagonal."""
    return nearest_correlation(pearson_from_kendall(kendall_correlation(samples)))


def latent_statistics(
    subjects: Float[np.ndarray, "m n d"], reference: Float[np.ndarray, "r n d"] | None = None
) -> LatentStatistics:
    """Statistics of a group of subjects.

    Columns are correlated over all slices of the group, taken off their means: what slices have in
    common is in the mean already. Rows are correlated over the latent dimensions, and subjects, of
    the reference.

    Args:
        subjects: latent matrices of the group (a disease), slices equalised.
        reference: subjects whose slices show how neighbours go together (healthy ones, as the
            source has it: say one); the group itself by default.

    Raises:
        ValueError: fewer than two subjects.
    """
    if len(subjects) < 2:
        raise ValueError(f"{len(subjects)} subjects: statistics of a group need at least two")
    _, slices, dims = subjects.shape
    subjects = subjects.astype(np.float64)
    mean, deviation = subjects.mean(0), subjects.std(0, ddof=1)
    residual = (subjects - mean) / np.maximum(deviation, 1e-9)
    if reference is None:
        across = residual
    elif len(reference) > 1:
        reference = reference.astype(np.float64)
        spread = np.maximum(reference.std(0, ddof=1), 1e-9)
        across = (reference - reference.mean(0)) / spread
    else:
        across = reference.astype(np.float64)
    return LatentStatistics(
        mean,
        deviation,
        subjects.min(0),
        subjects.max(0),
        rows=rank_correlation(across.transpose(0, 2, 1).reshape(-1, slices)),
        columns=rank_correlation(residual.reshape(-1, dims)),
    )


def draw_latents(
    rng: np.random.Generator,
    statistics: LatentStatistics,
    count: int,
    correlate: Correlate | str = "moments",
) -> Float[np.ndarray, "count n d"]:
    """Pseudo-subjects.

    ``moments``: ``clip(m + s * (L_r E L_c^T))`` with ``E ~ N(0, I)`` and Cholesky factors of both
    correlations: every entry keeps its mean and deviation (up to the clipping). ``raw``:
    ``L_r (L_c P^T)^T`` of truncated normal entries P, which the reference implementation has: means
    are multiplied too, and so change. ``none``: truncated normal entries, independent.

    Args:
        rng: random generator.
        statistics: of the group.
        count: subjects.
        correlate: one of `CORRELATE`.

    Raises:
        ValueError: an unknown way.
    """
    if correlate not in CORRELATE:
        raise ValueError(f"correlate='{correlate}': choose one of {', '.join(CORRELATE)}")
    shape = (count, *statistics.mean.shape)
    rows, columns = (np.linalg.cholesky(c) for c in (statistics.rows, statistics.columns))
    if correlate == "moments":
        noise = rows @ rng.standard_normal(shape) @ columns.T
        drawn = statistics.mean + statistics.deviation * noise
        return np.clip(drawn, statistics.low, statistics.high)
    spread = np.maximum(statistics.deviation, 1e-9)
    low, high = ((x - statistics.mean) / spread for x in (statistics.low, statistics.high))
    drawn = stats.truncnorm.rvs(
        low - 1e-9, high + 1e-9, statistics.mean, spread, size=shape, random_state=rng
    )
    return rows @ drawn @ columns.T if correlate == "raw" else drawn
