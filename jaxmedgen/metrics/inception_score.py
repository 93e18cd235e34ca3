"""Inception score: how sure a classifier is of single images, and how unsure of the set.

``IS = exp(E_x KL[p(y|x) || p(y)])`` (Salimans et al., NeurIPS 2016): 1 at least, the number of
classes at most. It says something only with a classifier that was trained on images of this kind,
and nothing of whether a class has more than one image.
"""

import numpy as np
from jaxtyping import Real

from jaxmedgen.metrics.kernel_distance import SubsetScore


def inception_score(
    probabilities: Real[np.ndarray, "n k"], *, splits: int = 10, seed: int = 0
) -> SubsetScore:
    """Mean and standard deviation over parts of the set.

    Args:
        probabilities: class probabilities of every image, rows that sum to one.
        splits: number of parts; no more than there are images.
        seed: of the order in which images are dealt to parts.

    Raises:
        ValueError: rows that are no probabilities, or no image.
    """
    p = np.asarray(probabilities, np.float64)
    if not len(p):
        raise ValueError("probabilities of no image: there is nothing to score")
    if (p < 0).any() or not np.allclose(p.sum(1), 1, atol=1e-4):
        raise ValueError("probabilities must be rows that sum to 1: pass a softmax' output")
    if splits < 1:
        raise ValueError(f"splits={splits} must be at least 1")
    order = np.random.default_rng(seed).permutation(len(p))
    scores = [_score(p[part]) for part in np.array_split(order, min(splits, len(p)))]
    return SubsetScore(float(np.mean(scores)), float(np.std(scores)))


def _score(p: np.ndarray) -> float:
    marginal = p.mean(0)
    # 0 log 0 is 0.
    terms = np.where(p > 0, p * (np.log(np.maximum(p, 1e-300)) - np.log(marginal + 1e-300)), 0.0)
    return float(np.exp(terms.sum(1).mean()))
