"""What the configuration of a label-to-image generator needs for other subjects than its own."""

import numpy as np
from ml_collections import ConfigDict


def fit_to_subjects(config: ConfigDict, shape: tuple[int, ...]) -> None:
    """Changes an unlocked configuration for images of a shape; what it does not have is left out.

    Args:
        config: of `configs/cardiac_synthesis.py`, or of another generator.
        shape: of the images that the networks see, two or three axes.
    """
    config.data.shape = shape
    if "intensity" in config:
        # Scaled one by one, slices lose how bright they are beside each other; of a volume that is
        # shown whole these would not even be its slices.
        config.intensity = "volume"
    if len(shape) == 3 and "quarter_turns" in config.get("augment", {}):
        config.augment.quarter_turns = 0.0  # directions of space are no styles
    if "levels" in config.get("model", {}):
        # A coarse map of four voxels at least, and axes that the feature network can halve twice.
        config.model.levels = min(config.model.levels, max(2, int(np.log2(min(shape) / 4))))
