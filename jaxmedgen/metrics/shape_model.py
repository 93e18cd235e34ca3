"""How good a statistical shape model is: compactness, generalisation, specificity.

Source: Davies, "Learning shape: optimal models for analysing natural variability", 2002 (chapter
on evaluation). Distances: 1 - Dice of masks, root mean square of landmarks in mm.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

Distances = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""``(a [n, *s], b [m, *s]) -> [n, m]``: all distances."""


def compactness(eigenvalues: Float[np.ndarray, " t"], total: float | None = None) -> np.ndarray:
    """``C(t) = sum_{i <= t} lambda_i / sum lambda``, ``[t]``.

    Args:
        eigenvalues: falling.
        total: sum of all, where only the largest are given.
    """
    return np.cumsum(eigenvalues) / (np.sum(eigenvalues) if total is None else total)


def dice_distances(
    a: Bool[np.ndarray, " n *s"], b: Bool[np.ndarray, " m *s"]
) -> Float[np.ndarray, "n m"]:
    """1 - Dice between all pairs of masks.

    Raises:
        ValueError: an empty mask in both, whose overlap means nothing.
    """
    first, second = (x.reshape(len(x), -1).astype(np.float32) for x in (a, b))
    volume = first.sum(1)[:, None] + second.sum(1)
    if (volume == 0).any():
        i, j = (int(k) for k in np.argwhere(volume == 0)[0])
        raise ValueError(f"masks {i} and {j} are both empty: they have no Dice; leave them out")
    return 1 - 2 * (first @ second.T) / volume


def rms_distances(
    a: Float[np.ndarray, " n p k"], b: Float[np.ndarray, " m p k"]
) -> Float[np.ndarray, "n m"]:
    """Root mean square distance of corresponding landmarks between all pairs, in their unit."""
    squares = ((a[:, None] - b[None]) ** 2).sum(-1)
    return np.sqrt(squares.mean(-1))


def generalisation(
    reconstructions: np.ndarray, held_out: np.ndarray, distances: Distances = dice_distances
) -> Float[np.ndarray, " n"]:
    """Distance of each held-out shape to its reconstruction; their mean is the measure.

    Args:
        reconstructions: ``[n, *s]``.
        held_out: ``[n, *s]``.
        distances: between pairs.

    Raises:
        ValueError: not one reconstruction a shape.
    """
    if len(reconstructions) != len(held_out):
        raise ValueError(
            f"{len(reconstructions)} reconstructions of {len(held_out)} shapes: give one each"
        )
    pairs = zip(reconstructions, held_out)
    return np.array([distances(r[None], h[None])[0, 0] for r, h in pairs])


def specificity(
    samples: np.ndarray, training: np.ndarray, distances: Distances = dice_distances
) -> Float[np.ndarray, " n"]:
    """Distance of each random sample to its nearest training shape; their mean is the measure."""
    return np.concatenate([distances(s, training).min(1) for s in np.array_split(
        samples, max(1, -(-len(samples) // 256))
    )])  # fmt: skip


def dice(a: Bool[np.ndarray, " n *s"], b: Bool[np.ndarray, " n *s"]) -> Float[np.ndarray, " n"]:
    """Dice of corresponding masks; 1 where both are empty."""
    first, second = (x.reshape(len(x), -1) for x in (a, b))
    volume = first.sum(1) + second.sum(1)
    return np.where(volume == 0, 1.0, 2 * (first & second).sum(1) / np.maximum(volume, 1))
