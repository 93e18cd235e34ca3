"""Classes that stand for a side change places with a flip, whatever makes the training images."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.augment.policy import Augmentation
from jaxmedgen.augment.spatial import Spatial
from jaxmedgen.configuration import from_json, load_config, to_json
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.experiments.training import predictor
from jaxmedgen.systems.base import build_system

NAMES = ("background", "left_hippocampus", "right_hippocampus")
MERGED = {"target_of": (0, 3, 3, 1, 2), "target_names": (*NAMES, "rest")}
"""Labels 3 and 4 are the sides, classes 1 and 2."""


def info(names=NAMES, axes=2, channels=("t1",)):
    return DatasetInfo(names, channels, (2.0,) * axes, ())


def segmenter(name="unet:cpu,arm=light", *, merged=False, axes=2, **overrides):
    """Configuration and system; `overrides` are of the group ``augment``."""
    tiny = {"data.shape": str((16,) * axes), "patch_size": "()"}
    if name.startswith("gcnn"):
        tiny |= {"net.base_filters": "4", "net.depth": "1"}
    augment = {f"augment.{key}": value for key, value in overrides.items()}
    config = load_config(name, tiny | augment)
    if merged:
        with config.unlocked():
            config.data.update(MERGED)
    return config, build_system(config, info((*NAMES, "rest") if merged else NAMES, axes))


def sided(left, right, axes=2, count=64):
    """A bar of each value, the left one at the low end of the first axis."""
    label = np.zeros((count, *(16,) * axes), np.int32)
    label[:, 2:5], label[:, 11:14] = left, right
    return jnp.asarray(label)


def right_of(label, one, other):
    """Samples in which `one` lies above `other` on the first axis."""
    label = np.asarray(label)
    at = np.arange(label.shape[1]).reshape(1, -1, *[1] * (label.ndim - 2))
    space = tuple(range(1, label.ndim))
    means = [(at * (label == v)).sum(space) / (label == v).sum(space) for v in (one, other)]
    return int((means[0] > means[1]).sum())


KEYS = jax.random.split(jax.random.key(0), 64)


@pytest.mark.parametrize("axes", [2, 3])
def test_synthesis_mirrors_left_to_left(axes):
    count = 64 if axes == 2 else 16
    _, system = segmenter(axes=axes, synthesis_probability="1.0")
    image, label = jax.jit(system.synthesis)(KEYS[:count], sided(1, 2, axes, count))
    assert right_of(label, 1, 2) == 0 and image.shape[:-1] == label.shape
    # Half of the samples are mirrored, so this is no still life.
    _, free = segmenter(axes=axes, synthesis_probability="1.0", swap_labels="()")
    mirrored = right_of(jax.jit(free.synthesis)(KEYS[:count], sided(1, 2, axes, count))[1], 1, 2)
    assert count // 4 < mirrored < 3 * count // 4


@pytest.mark.parametrize("pairs", ["None", "((3, 4),)"])
def test_synthesis_of_finer_labels_swaps_these(pairs):
    _, system = segmenter(merged=True, synthesis_probability="1.0", swap_labels=pairs)
    assert system.synthesis.spatial.swap_labels == ((3, 4),)
    label = jax.jit(system.synthesis)(KEYS, sided(3, 4))[1]
    assert right_of(label, 1, 2) == 0 and set(np.unique(label)) == {0, 1, 2}


def test_sides_have_one_contrast_in_synthesis():
    _, system = segmenter(synthesis_probability="0.5")
    order = system.synthesis._contrast_of(8)
    assert list(order) == [0, 1, 1, 3, 4, 5, 6, 7]
    _, plain = segmenter(synthesis_probability="0.5", swap_labels="()")
    assert list(plain.synthesis._contrast_of(8)) == list(range(8))


def test_synthesis_without_sides_is_what_it_was():
    """Recorded experiments: the same numbers as with the generative model's own default."""
    config = load_config("unet:cpu,arm=synthesis", {"data.shape": "(16, 16)"})
    system = build_system(config, info(("background", "csf", "brain")))
    default = dataclasses.replace(system.synthesis, spatial=None)
    label = sided(1, 2, count=4)
    for a, b in zip(*(jax.jit(made)(KEYS[:4], label) for made in (system.synthesis, default))):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["unet:cpu,arm=light", "gcnn_unet:cpu,arm=baseline"])
@pytest.mark.parametrize("pairs", ["None", "((3, 4),)"])
def test_merged_labels_keep_their_sides(name, pairs):
    _, system = segmenter(name, merged=True, preset="light", swap_labels=pairs)
    assert system.augmentation.spatial.swap_labels == ((1, 2),)
    label = sided(3, 4).at[:, 7:9].set(1)
    batch = {"image": jnp.zeros((*label.shape, 1)), "label": label}
    found = jax.jit(system.prepare)(batch, KEYS)["label"]
    assert right_of(found, 1, 2) == 0 and set(np.unique(found)) == {0, 1, 2, 3}


@pytest.mark.parametrize("pairs", ["None", "((3, 4),)"])
def test_predictions_of_mirrored_images_are_turned_back_alike(pairs):
    config, system = segmenter(merged=True, swap_labels=pairs)
    assert predictor(system, config, (*NAMES, "rest"))._mirrored == [0, 2, 1, 3]


GANS = {
    "cardiac_synthesis:cpu,arm=label": {"data.shape": "(32, 32)", "features.kind": "gradients"},
    "genseg:cpu": {"data.shape": "(32, 32)"},
    "genseg:cpu,arm=mean_teacher": {"data.shape": "(32, 32)"},
}


@pytest.mark.parametrize("name", GANS)
def test_generators_obey_the_keys_of_augmentation(name):
    settings = GANS[name] | {"augment.preset": "light"}
    config = load_config(name, settings | {"augment.background": "-1.0"})
    policy = build_system(config, info()).augmentation
    assert isinstance(policy, Augmentation) and policy.background == -1
    assert policy.spatial.swap_labels == ((1, 2),)
    off = load_config(name, settings | {"augment.swap_labels": "()", "augment.background": "min"})
    policy = build_system(off, info()).augmentation
    assert policy.spatial.swap_labels == () and policy.background == "min"


@pytest.mark.parametrize("name", GANS)
def test_runs_from_before_these_keys_are_built(name):
    stored = load_config(name, GANS[name] | {"augment.preset": "light"}).to_dict()
    stored["augment"].pop("background")
    stored["augment"].pop("swap_labels")
    again = from_json(to_json(load_config(name).__class__(stored)))
    policy = build_system(again, info(("background", "csf", "brain"))).augmentation
    assert policy.background is None and isinstance(policy.spatial, Spatial)


def test_soft_labels_are_refused_by_genseg():
    config = load_config("genseg:cpu", {"augment.preset": "mixup"})
    with pytest.raises(ValueError, match="'mixup' makes soft labels, which GenSeg does not take"):
        build_system(config, info())
