"""How much the images of one set differ from each other.

MS-SSIM over random pairs (lower is more diverse; compare with the same of real pairs) and the mean
distance of feature vectors. Identical label maps in several styles and several anatomies in one
style are different kinds of variety: the synthetic set's own count of both goes with these numbers.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Real

from jaxmedgen.metrics.image_quality import ms_ssim
from jaxmedgen.metrics.kernel_distance import squared_distances

_BATCH = 16


def random_pairs(size: int, count: int, seed: int = 0) -> Int[np.ndarray, "p 2"]:
    """Distinct unordered pairs of different numbers below `size`, all where there are few.

    Raises:
        ValueError: fewer than two to choose from.
    """
    if size < 2:
        raise ValueError(f"{size} image(s): pairs need two")
    pairs = np.stack(np.triu_indices(size, 1), 1)
    if len(pairs) <= count:
        return pairs
    return pairs[np.random.default_rng(seed).choice(len(pairs), count, replace=False)]


def pairwise_ms_ssim(
    images: Float[np.ndarray, "n *s c"],
    *,
    data_range: float | int,
    window: int | Sequence[int] = 11,
    pairs: int = 200,
    seed: int = 0,
) -> Float[np.ndarray, " p"]:
    """MS-SSIM of random pairs of a set.

    Args:
        images: the set.
        data_range: width of the full scale.
        window: as in `image_quality.ssim`.
        pairs: how many; all where there are fewer.
        seed: of the pairs.

    Raises:
        ValueError: fewer than two images.
    """
    chosen = random_pairs(len(images), pairs, seed)
    score = jax.jit(lambda a, b: ms_ssim(a, b, data_range=data_range, window=window))
    found = []
    for start in range(0, len(chosen), _BATCH):
        part = chosen[start : start + _BATCH]
        # One compiled size: the last batch is filled up.
        filled = np.resize(part, (_BATCH, 2))
        values = score(*(jnp.asarray(images[filled[:, side]], jnp.float32) for side in (0, 1)))
        found.append(np.asarray(values)[: len(part)])
    return np.concatenate(found)


def mean_feature_distance(features: Real[np.ndarray, "n d"]) -> float:
    """Mean Euclidean distance between all pairs of feature vectors.

    Raises:
        ValueError: fewer than two vectors.
    """
    if len(features) < 2:
        raise ValueError(f"{len(features)} vector(s): distances need two")
    distances = np.sqrt(squared_distances(features, features))
    return float(distances[np.triu_indices(len(features), 1)].mean())
