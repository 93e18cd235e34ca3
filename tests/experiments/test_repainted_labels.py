"""Images of new label maps: what changed is repainted, the rest is the subject's own."""

import numpy as np

from jaxmedgen.configuration import load_config
from jaxmedgen.data.phantoms.short_axis import ShortAxis
from jaxmedgen.data.sources import in_memory
from jaxmedgen.experiments import arms, learned_arms, repainted_labels
from jaxmedgen.experiments.arms import ArmInputs


def test_only_changed_voxels_are_repainted_with_their_new_class():
    own = np.zeros((8, 9), np.int32)
    own[2:5, 2:5] = 1
    image = np.where(own, 10.0, 0.0)[..., None] + np.random.default_rng(0).uniform(size=(8, 9, 2))
    new = np.roll(own, 1, 0)
    new[7, 8] = 2  # the subject has no such class
    made, label = repainted_labels.repaint(image, own, new, np.random.default_rng(1))
    np.testing.assert_array_equal(label, np.where(new == 2, own, new))
    same = own == label
    np.testing.assert_array_equal(made[same], image[same])
    assert (made[(label == 1) & ~same] >= 10).all() and (made[(label == 0) & ~same] < 1).all()
    assert (~same).sum() == 6


def test_the_arm_adds_four_images_a_subject(monkeypatch, tmp_path):
    labelled = in_memory(ShortAxis(3, (32, 32)))

    def flipped(config, source, *_, **__):
        return lambda i: [source[i]["label"][::-1]] * 4

    monkeypatch.setattr(repainted_labels, "label_draws", flipped)
    monkeypatch.setattr(learned_arms, "model_seconds", lambda folder: 7.0)
    chosen = arms.select_arms(["labelvae"])["labelvae"]
    training = chosen.prepare(ArmInputs(load_config("unet"), labelled, tmp_path, 0, tmp_path))
    assert len(training.source) == 2 * 3 * 4 and training.augmentation is None
    assert training.seconds == 7.0
    np.testing.assert_array_equal(training.source[12]["label"], labelled[0]["label"][::-1])
    np.testing.assert_array_equal(training.source[0]["image"], labelled[0]["image"])
    assert training.source.info.case_names[12].endswith("repainted-0")
