"""Whether a generator copies its training images: nearest neighbours in feature or image space.

A generator that has learned a distribution is as close to its training images as held-out images
are; one that copies is closer. Authenticity: Alaa et al., ICML 2022.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int, Real

from jaxmedgen.metrics.kernel_distance import squared_distances


@dataclasses.dataclass(frozen=True, eq=False)
class Memorisation:
    """How close generated vectors are to training vectors.

    Attributes:
        distance_ratio: median distance of generated vectors to their nearest training vector over
            that of held-out vectors; well below 1 means copying.
        copied: share of generated vectors nearer to a training vector than all but the nearest 1 %
            of held-out ones are; 0.01 is expected of a generator that does not copy.
        authenticity: share of generated vectors that are farther from their nearest training
            vector than that one is from its own nearest training neighbour.
        nearest: number of the nearest training vector of each generated one.
        distance: distance to it.
    """

    distance_ratio: float
    copied: float
    authenticity: float
    nearest: Int[np.ndarray, " m"]
    distance: Float[np.ndarray, " m"]


def memorisation(
    train: Real[np.ndarray, "n d"],
    held_out: Real[np.ndarray, "h d"],
    generated: Real[np.ndarray, "m d"],
) -> Memorisation:
    """Compares generated vectors' nearest training neighbours with held-out real ones'.

    Args:
        train: vectors of the images that the generator was trained on, at least two.
        held_out: vectors of real images that it has not seen.
        generated: vectors of its images.

    Raises:
        ValueError: too few vectors.
    """
    if len(train) < 2 or not len(held_out) or not len(generated):
        raise ValueError(
            f"{len(train)} training, {len(held_out)} held-out and {len(generated)} generated "
            "vectors: give at least 2, 1 and 1"
        )
    to_train = squared_distances(generated, train)
    nearest = to_train.argmin(1)
    distance = np.sqrt(to_train.min(1))
    expected = np.sqrt(squared_distances(held_out, train).min(1))
    among = squared_distances(train, train)
    np.fill_diagonal(among, np.inf)
    own = np.sqrt(among.min(1))
    return Memorisation(
        distance_ratio=float(np.median(distance) / max(float(np.median(expected)), 1e-12)),
        copied=float((distance < np.percentile(expected, 1)).mean()),
        authenticity=float((distance > own[nearest]).mean()),
        nearest=nearest,
        distance=distance,
    )
