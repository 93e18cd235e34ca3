"""How much of the generated set lies on the real manifold, and how much of that is covered.

A set's manifold is the union of balls round its vectors, each as large as the distance to the k-th
nearest neighbour within the set. Precision and recall: Kynkäänniemi et al., NeurIPS 2019. Density
and coverage, which one outlier cannot spoil: Naeem et al., ICML 2020.
"""

import dataclasses

import numpy as np
from jaxtyping import Real

from jaxmedgen.metrics.kernel_distance import squared_distances


@dataclasses.dataclass(frozen=True)
class Manifold:
    """Precision, recall, density and coverage.

    Attributes:
        precision: share of generated vectors within the real manifold (realism).
        recall: share of real vectors within the generated manifold (variety).
        density: mean number of real balls round a generated vector, over k; about 1 for equal sets.
        coverage: share of real balls that hold a generated vector.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def manifold(
    real: Real[np.ndarray, "n d"], generated: Real[np.ndarray, "m e"], *, neighbours: int = 5
) -> Manifold:
    """Compares two sets of feature vectors by balls of `neighbours` nearest neighbours.

    Args:
        real: feature vectors of real images.
        generated: feature vectors of generated images, same extractor.
        neighbours: k, smaller than both sets.

    Raises:
        ValueError: k does not fit the sets, or dimensions differ.
    """
    if not 1 <= neighbours < min(len(real), len(generated)):
        raise ValueError(
            f"neighbours={neighbours} must be at least 1 and below the size of both sets "
            f"({len(real)} and {len(generated)})"
        )
    if real.shape[1] != generated.shape[1]:
        raise ValueError(
            f"features of {real.shape[1]} and {generated.shape[1]} dimensions cannot be compared: "
            "take them from the same extractor"
        )
    real_radius, generated_radius = (_radii(s, neighbours) for s in (real, generated))
    between = squared_distances(real, generated)
    inside = between <= real_radius[:, None]
    return Manifold(
        precision=float(inside.any(0).mean()),
        recall=float((between <= generated_radius).any(1).mean()),
        density=float(inside.sum(0).mean() / neighbours),
        coverage=float((between.min(1) <= real_radius).mean()),
    )


def _radii(vectors: np.ndarray, neighbours: int) -> np.ndarray:
    """Squared distance of every vector to its k-th nearest neighbour, itself not counted."""
    distances = squared_distances(vectors, vectors)
    np.fill_diagonal(distances, 0)
    return np.partition(distances, neighbours, axis=1)[:, neighbours]
