"""How well a group of images agrees once it is brought into a common frame."""

import itertools

import numpy as np
from jaxtyping import Float, Int


def mean_pairwise_dice(labels: Int[np.ndarray, " n *s"], classes: int) -> float:
    """Dice of label maps, mean over all pairs of subjects and over the foreground classes.

    A class that neither of two subjects has is left out.

    Args:
        labels: class indices, all on one grid.
        classes: number of label values, background included.

    Raises:
        ValueError: fewer than two subjects.
    """
    if len(labels) < 2:
        raise ValueError(f"{len(labels)} subject(s): pairs need two or more")
    flat = labels.reshape(len(labels), -1)
    scores = []
    for value in range(1, classes):
        masks = (flat == value).astype(np.float64)
        common, sizes = masks @ masks.T, masks.sum(1)
        for i, j in itertools.combinations(range(len(labels)), 2):
            total = sizes[i] + sizes[j]
            if total:
                scores.append(2 * common[i, j] / total)
    return float(np.mean(scores)) if scores else float("nan")


def voxelwise_deviation(images: Float[np.ndarray, " n *s"]) -> float:
    """Standard deviation over subjects, mean over voxels: the blur of the mean image."""
    return float(np.std(images, axis=0).mean())
