"""Fréchet distance between sets of feature vectors (FID), on the host in float64.

``FID = |mu_r - mu_g|^2 + Tr(C_r + C_g - 2 (C_r C_g)^(1/2))`` (Heusel et al., NeurIPS 2017). The
trace of the root is the sum of the roots of the eigenvalues of ``S^T C_g S`` with ``S S^T = C_r``,
a symmetric matrix: no complex numbers arise and nothing is added to the diagonals. A covariance of
N vectors has rank N - 1 at most; with fewer than ten vectors a dimension the distance is biased
upward, and sets of different sizes cannot be compared. `fid_infinity` extrapolates that bias away
(Chong & Forsyth, CVPR 2020).
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Real

VECTORS_PER_DIMENSION = 10
"""Fewer vectors than so many times the dimension make FID unreliable."""


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance of a set of feature vectors.

    Attributes:
        mean: ``[d]``.
        covariance: ``[d, d]``, divided by ``count - 1``.
        count: number of vectors.
    """

    mean: Float[np.ndarray, " d"]
    covariance: Float[np.ndarray, "d d"]
    count: int

    @property
    def reliable(self) -> bool:
        """Whether there are enough vectors for the dimension."""
        return self.count >= VECTORS_PER_DIMENSION * len(self.mean)


def feature_moments(features: Real[np.ndarray, "n d"]) -> Moments:
    """Mean and covariance of feature vectors, one a row.

    Raises:
        ValueError: fewer than two vectors, or values that are not finite.
    """
    values = _checked(features, "features")
    mean = values.mean(0)
    centred = values - mean
    return Moments(mean, centred.T @ centred / (len(values) - 1), len(values))


def frechet_distance(real: Moments, generated: Moments) -> float:
    """The Fréchet distance of two Gaussians, not below 0.

    Raises:
        ValueError: moments of different dimensions.
    """
    if real.mean.shape != generated.mean.shape:
        raise ValueError(
            f"features of {len(real.mean)} and {len(generated.mean)} dimensions cannot be "
            "compared: take them from the same extractor"
        )
    factor = _factor(real.covariance)
    product = factor.T @ generated.covariance @ factor
    eigenvalues = np.linalg.eigvalsh((product + product.T) / 2)
    root = np.sqrt(np.maximum(eigenvalues, 0)).sum()
    difference = real.mean - generated.mean
    traces = np.trace(real.covariance) + np.trace(generated.covariance)
    return float(max(difference @ difference + traces - 2 * root, 0.0))


def fid(real: Real[np.ndarray, "n d"], generated: Real[np.ndarray, "m e"]) -> float:
    """FID of two sets of feature vectors of the same extractor.

    Raises:
        ValueError: fewer than two vectors a set, or sets of different dimensions.
    """
    return frechet_distance(feature_moments(real), feature_moments(generated))


def fid_infinity(
    real: Real[np.ndarray, "n d"],
    generated: Real[np.ndarray, "m e"],
    *,
    points: int = 15,
    seed: int = 0,
) -> float:
    """FID extrapolated to infinitely many generated images: a line through FID against 1/N.

    Args:
        real: feature vectors of all real images, used whole at every point.
        generated: feature vectors of generated images; subsets of it are drawn.
        points: number of subset sizes, evenly spaced from a third of the set to all of it.
        seed: of the subsets.

    Raises:
        ValueError: too few generated vectors for two different subset sizes.
    """
    reference = feature_moments(real)
    values = _checked(generated, "generated")
    sizes = np.unique(np.linspace(max(2, len(values) // 3), len(values), points).astype(int))
    if len(sizes) < 2:
        raise ValueError(f"{len(values)} generated vectors are too few to extrapolate: give 6")
    rng = np.random.default_rng(seed)
    found = [
        frechet_distance(reference, feature_moments(values[rng.permutation(len(values))[:size]]))
        for size in sizes
    ]
    return float(np.polyfit(1 / sizes, found, 1)[1])


def fid_by_group(
    real: Real[np.ndarray, "n d"],
    generated: Real[np.ndarray, "m e"],
    real_groups: Sequence[str],
    generated_groups: Sequence[str],
) -> Mapping[str, float]:
    """FID within each group (class, vendor, disease) that both sets have at least two members of.

    Raises:
        ValueError: not one group name a vector.
    """
    named = ((real, real_groups, "real"), (generated, generated_groups, "generated"))
    for vectors, groups, name in named:
        if len(vectors) != len(groups):
            raise ValueError(f"{len(groups)} {name} groups for {len(vectors)} vectors")
    ours, theirs = np.asarray(real_groups), np.asarray(generated_groups)
    return {
        str(group): fid(real[ours == group], generated[theirs == group])
        for group in sorted(set(real_groups) & set(generated_groups))
        if min((ours == group).sum(), (theirs == group).sum()) >= 2
    }


def _factor(covariance: np.ndarray) -> np.ndarray:
    """S with ``S S^T = C``: Cholesky's, or by eigenvalues where the rank is not full."""
    try:
        return np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        return vectors * np.sqrt(np.maximum(values, 0))


def _checked(features: np.ndarray, name: str) -> np.ndarray:
    values = np.asarray(features, np.float64)
    if len(values) < 2:
        raise ValueError(f"{name} holds {len(values)} vector(s): a covariance needs at least 2")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds NaN or infinite values: look at the images behind them")
    return values
