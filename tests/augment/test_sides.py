"""Left and right: found by name, exchanged where predictions are averaged over mirroring."""

import numpy as np
import pytest

from jaxmedgen.augment.sides import (
    generation_pairs,
    lateral_pairs,
    mirrored_classes,
    swapped_labels,
)
from jaxmedgen.experiments.evaluation import Predictor


def test_pairs_are_names_that_differ_by_their_side():
    names = ("background", "Right-Hippocampus", "csf", "left-hippocampus", "leftover", "rightover")
    assert lateral_pairs(names) == ((3, 1),)
    assert lateral_pairs(("background", "left_lung")) == ()
    assert lateral_pairs(("lv", "left kidney upper", "right kidney", "right kidney upper")) == (
        (1, 3),
    )


SIDED = ("background", "left lung", "right lung", "rest")


def test_classes_of_a_mirrored_prediction():
    assert mirrored_classes(((1, 2),), 4) == [0, 2, 1, 3]
    with pytest.raises(ValueError, match="label values end at 3"):
        mirrored_classes(((1, 4),), 4)


def test_pairs_of_merged_labels_become_pairs_of_their_classes():
    # Five labels in three classes: those of the pair are classes 2 and 1.
    assert swapped_labels({"swap_labels": ((1, 4),)}, "abc", (0, 2, 0, 0, 1)) == ((1, 2),)
    # Two labels a side, and a pair within a class.
    several = {"swap_labels": ((1, 4), (5, 2), (3, 6))}
    assert swapped_labels(several, SIDED, (0, 1, 1, 3, 2, 2, 3)) == ((1, 2),)
    assert swapped_labels({"swap_labels": ()}, SIDED, (0, 3, 3, 1, 2)) == ()
    # By name: names are those of the classes.
    assert swapped_labels({}, SIDED, (0, 3, 3, 1, 2)) == ((1, 2),)
    assert swapped_labels({}, SIDED) == ((1, 2),)
    with pytest.raises(ValueError, match=r"swap_labels has \(3, 5\), label values end at 4"):
        swapped_labels({"swap_labels": ((3, 5),)}, SIDED, (0, 3, 3, 1, 2))


def test_sides_that_are_merged_unlike_each_other_are_refused():
    for target_of in ((0, 1, 0), (0, 1, 2, 1)):  # one side is background, or has a part more
        with pytest.raises(ValueError, match="merge left and right labels alike"):
            swapped_labels({"swap_labels": ((1, 2),)}, "abc", target_of)


def test_labels_of_synthesis_change_places_before_they_are_merged():
    assert generation_pairs({}, SIDED) == ((1, 2),)
    assert generation_pairs({"swap_labels": ((3, 4),)}, SIDED, (0, 3, 3, 1, 2)) == ((3, 4),)
    assert generation_pairs({"swap_labels": ()}, SIDED, (0, 3, 3, 1, 2)) == ()
    assert generation_pairs({}, SIDED, (0, 3, 3, 1, 2)) == ((3, 4),)
    assert generation_pairs({}, SIDED, (0, 1, 2, 1, 2, 3)) == ((1, 2), (3, 4))
    assert generation_pairs({}, ("background", "lung"), (0, 1, 1)) == ()
    with pytest.raises(ValueError, match=r"\[1, 3\] for 'left lung' and \[2\].*swap_labels"):
        generation_pairs({}, SIDED, (0, 1, 2, 1, 3))


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
