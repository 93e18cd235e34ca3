"""Kernel distances between sets of feature vectors: KID and MMD, on the host in float64.

KID is the unbiased squared maximum mean discrepancy of the kernel ``(x.y / d + 1)^3`` (Bińkowski
et al., ICLR 2018): its expectation is 0 for equal distributions at any number of images, where FID
is biased. `mmd` takes a Gaussian or linear kernel (Gretton et al., JMLR 2012).
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Real

Kernel = Literal["polynomial", "gaussian", "linear"]


class SubsetScore(NamedTuple):
    """Mean and standard deviation of a score over random subsets."""

    mean: float
    deviation: float


def kid(
    real: Real[np.ndarray, "n d"],
    generated: Real[np.ndarray, "m e"],
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
) -> SubsetScore:
    """Kernel inception distance over random subsets.

    Args:
        real: feature vectors of real images.
        generated: feature vectors of generated images, same extractor.
        subsets: number of subsets.
        subset_size: vectors a subset and side; the smaller set's size where it is smaller.
        seed: of the subsets.

    Raises:
        ValueError: fewer than two vectors, or different dimensions.
    """
    real, generated = np.asarray(real, np.float64), np.asarray(generated, np.float64)
    _check(real, generated)
    size = min(subset_size, len(real), len(generated))
    if size == len(real) == len(generated):
        subsets = 1  # Every subset would be the whole.
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(subsets):
        ours = real[rng.choice(len(real), size, replace=False)]
        theirs = generated[rng.choice(len(generated), size, replace=False)]
        found.append(mmd(ours, theirs, kernel="polynomial"))
    return SubsetScore(float(np.mean(found)), float(np.std(found)))


def mmd(
    real: Real[np.ndarray, "n d"],
    generated: Real[np.ndarray, "m e"],
    *,
    kernel: Kernel = "gaussian",
    bandwidth: float | int | None = None,
) -> float:
    """Unbiased squared maximum mean discrepancy; may be below 0.

    ``mean_{i!=j} k(x_i, x_j) + mean_{i!=j} k(y_i, y_j) - 2 mean_{i,j} k(x_i, y_j)``.

    Args:
        real: feature vectors.
        generated: feature vectors of the same dimension.
        kernel: ``polynomial`` (KID's), ``gaussian`` or ``linear``.
        bandwidth: of the Gaussian; the median distance between all vectors by default.

    Raises:
        ValueError: fewer than two vectors, different dimensions, an unknown kernel or a bandwidth
            that is not positive.
    """
    real, generated = np.asarray(real, np.float64), np.asarray(generated, np.float64)
    _check(real, generated)
    if kernel == "gaussian":
        if bandwidth is None:
            bandwidth = _median_distance(np.concatenate([real, generated]))
        if bandwidth <= 0:
            raise ValueError(f"bandwidth={bandwidth} must be positive")

        def similarity(a, b):
            return np.exp(-squared_distances(a, b) / (2 * bandwidth**2))

    elif kernel in ("polynomial", "linear"):

        def similarity(a, b):
            product = a @ b.T
            return product if kernel == "linear" else (product / a.shape[1] + 1) ** 3

    else:
        raise ValueError(f"unknown kernel '{kernel}': choose polynomial, gaussian or linear")
    within = sum(_off_diagonal_mean(similarity(a, a)) for a in (real, generated))
    return float(within - 2 * similarity(real, generated).mean())


def squared_distances(
    a: Real[np.ndarray, "n d"], b: Real[np.ndarray, "m d"]
) -> Float[np.ndarray, "n m"]:
    """Squared Euclidean distances between the rows of two arrays."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    # Distances do not see a common shift; the middle keeps the sums of squares small.
    middle = a.mean(0)
    a, b = a - middle, b - middle
    found = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.maximum(found, 0)


def _off_diagonal_mean(matrix: np.ndarray) -> float:
    n = len(matrix)
    return float((matrix.sum() - np.trace(matrix)) / (n * (n - 1)))


def _median_distance(vectors: np.ndarray) -> float:
    distances = squared_distances(vectors, vectors)[np.triu_indices(len(vectors), 1)]
    return float(np.sqrt(np.median(distances))) or 1.0


def _check(real: np.ndarray, generated: np.ndarray) -> None:
    if min(len(real), len(generated)) < 2:
        raise ValueError(
            f"{len(real)} real and {len(generated)} generated vectors: give at least 2 of each"
        )
    if real.shape[1] != generated.shape[1]:
        raise ValueError(
            f"features of {real.shape[1]} and {generated.shape[1]} dimensions cannot be compared: "
            "take them from the same extractor"
        )
