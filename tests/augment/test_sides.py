"""Left and right: found by name, exchanged where predictions are averaged over mirroring."""

import numpy as np
import pytest

from jaxmedgen.augment.sides import lateral_pairs, mirrored_classes
from jaxmedgen.experiments.evaluation import Predictor


def test_pairs_are_names_that_differ_by_their_side():
    names = ("background", "Right-Hippocampus", "csf", "left-hippocampus", "leftover", "rightover")
    assert lateral_pairs(names) == ((3, 1),)
    assert lateral_pairs(("background", "left_lung")) == ()
    assert lateral_pairs(("lv", "left kidney upper", "right kidney", "right kidney upper")) == (
        (1, 3),
    )


def test_merged_labels_take_their_classes_along():
    assert mirrored_classes(((1, 2),), 4) == [0, 2, 1, 3]
    # Five labels in three classes: those of the pair are classes 2 and 1.
    assert mirrored_classes(((1, 4),), 3, (0, 2, 0, 0, 1)) == [0, 2, 1]
    with pytest.raises(ValueError, match="label values end at 3"):
        mirrored_classes(((1, 4),), 4)


class ToldBySide:
    """Class 1 in the lower half of the first axis, class 2 in the upper one, whatever is shown."""

    def predict(self, variables, image):
        lower = np.arange(image.shape[1]) < image.shape[1] // 2
        one_hot = np.stack([0 * lower, lower, ~lower], -1).astype(np.float32)
        return np.broadcast_to(one_hot[None, :, None], (*image.shape[:-1], 3))


def test_predictions_of_sides_survive_mirroring():
    image = np.zeros((4, 2, 1), np.float32)
    told = Predictor(ToldBySide(), mirrored=[0, 2, 1])
    plain = Predictor(ToldBySide())
    once = told.probabilities({}, image)
    np.testing.assert_allclose(told.probabilities({}, image, flips="probabilities"), once)
    mixed = plain.probabilities({}, image, flips="probabilities")
    np.testing.assert_allclose(mixed[..., 1:], 0.5)
