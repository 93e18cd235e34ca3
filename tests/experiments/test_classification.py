"""Classifiers on separable images, the three networks, scores against their definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.data.phantoms.vessel_junctions import VesselJunctions
from jaxmedgen.experiments.classification import LabelledImages, Trials, labelled_images, score_sets
from jaxmedgen.nets.image_classifiers import CNNClassifier, DenseNet


def test_a_set_of_the_right_labels_teaches_and_one_of_wrong_labels_does_not():
    rng = np.random.default_rng(0)
    kind = np.arange(60, dtype=np.int32) % 3
    image = rng.normal(0, 0.3, (60, 6, 6, 1)).astype(np.float32)
    image[np.arange(60), kind * 2] += 1.0
    right = LabelledImages(image, kind)
    wrong = LabelledImages(image[:20], (kind[:20] + 1) % 3)
    test = LabelledImages(image[::-1].copy(), kind[::-1].copy())
    trials = Trials(features=(16,), classes=3, runs=1, steps=60, batch=16, learning_rate=1e-2)
    scores = score_sets(trials, {"right": right, "wrong": wrong}, test)
    assert min(scores["right"].accuracy) > 95 and max(scores["wrong"].balanced) < 30
    with pytest.raises(ValueError, match="set 'empty' has no images"):
        score_sets(trials, {"empty": LabelledImages(image[:0], kind[:0])}, test)
    with pytest.raises(ValueError, match="classifier 'svm'"):
        Trials("svm").system(2, 1)


def test_networks_have_their_published_sizes():
    x = jnp.zeros((2, 28, 28, 1))

    def count(net):
        variables = jax.eval_shape(lambda k: net.init(k, x), jax.random.key(0))
        return sum(np.prod(p.shape) for p in jax.tree.leaves(variables["params"]))

    # DenseNet-BC 20, growth 10: two pairs a block; channels 20, 40 -> 20, 40 -> 20, 40.
    pairs = sum(2 * c + c * 40 + 80 + 9 * 40 * 10 for c in (20, 30)) * 3
    joints = 3 * 2 * 40 + 2 * 40 * 20
    assert count(DenseNet(10)) == 9 * 20 + pairs + joints + 40 * 10 + 10
    convolutions = 9 * (8 + 8 * 16 + 16 * 32 + 32 * 64) + 8 + 16 + 32 + 64
    assert count(CNNClassifier(2)) == convolutions + 64 * 2 + 2  # 28, 14, 7, 3, 1


def test_junctions_are_balanced_distinct_and_repeatable():
    source = VesselJunctions(8, seed=3)
    images = labelled_images(source)
    np.testing.assert_array_equal(images.kind, np.arange(8) % 4)
    assert images.image.shape == (8, 20, 20, 1)
    assert 0.8 < images.image.max() <= 1 and images.image.min() >= 0
    np.testing.assert_array_equal(VesselJunctions(4, seed=3, start=4)[1]["image"], images.image[5])
    # More arms, more ink: a cross has about twice that of a corner.
    ink = images.image.sum((1, 2, 3)).reshape(2, 4).mean(0)
    assert ink[3] > ink[2] > max(ink[0], ink[1])
    with pytest.raises(ValueError, match="at least 20 pixels"):
        VesselJunctions(1, (16, 16))
