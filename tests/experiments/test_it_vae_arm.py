"""The IT-VAE's arm of a study: one model for all modes, trained on the run's subjects alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.augment.draws import split_keys
from jaxmedgen.augment.policy import Augmentation
from jaxmedgen.augment.spatial import sample_spatial
from jaxmedgen.configuration import load_config
from jaxmedgen.data.phantoms.population import Population
from jaxmedgen.data.sources import ImagesOnly, in_memory, subset
from jaxmedgen.experiments import it_vae_arm, model_training
from jaxmedgen.experiments.arms import ARMS, ArmInputs, select_arms
from jaxmedgen.train.metrics_log import read_metrics

_SHAPE = (32, 32)


@pytest.fixture(autouse=True, scope="module")
def compilation_cache():
    before = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def _quick(real_config):
    def quick(*arguments):
        made = real_config(*arguments)
        with made.unlocked():
            made.model.transformer, made.model.features = "affinediff", (4, 8)
        return made

    return quick


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Three subjects and what the arms of all modes make of them, trained for a few steps."""
    labelled = in_memory(Population(3, _SHAPE))
    config = load_config(
        "ablation", {"data.shape": str(_SHAPE), "parallel.data": "1", "model_steps": "4"}
    )
    folder = tmp_path_factory.mktemp("arm")
    quick = _quick(it_vae_arm._config)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(it_vae_arm, "_config", quick)
        inputs = ArmInputs(config, labelled, folder / "own", 0, folder / "shared")
        found = {
            mode: ARMS[f"itvae-{mode}"].prepare(inputs) for mode in ("naive", "instance", "mixed")
        }
    return folder, labelled, found


def test_all_modes_take_one_training(prepared):
    folder, labelled, found = prepared
    (naive, instance, mixed) = found.values()
    (log,) = folder.glob("**/metrics.jsonl")
    assert read_metrics(log, split="train")[-1]["step"] == 4
    assert naive.seconds == instance.seconds == mixed.seconds > 0
    for made in found.values():
        assert len(made.augmentation.means) == len(labelled)
        assert made.changes["augment.preset"] == "none"
        np.testing.assert_array_equal(made.augmentation.means, naive.augmentation.means)


@pytest.mark.parametrize(
    ("name", "mode", "own"),
    [
        ("itvae-instance3", "instance", {"temperature": 3}),
        ("itvae-dirichlet", "mixed", {"blend": "dirichlet"}),
        ("itvae-fixed", "mixed", {"unwarp": False}),
    ],
)
def test_other_ways_of_drawing_take_the_same_model(prepared, monkeypatch, name, mode, own):
    folder, labelled, found = prepared
    settings = {"data.shape": str(_SHAPE), "parallel.data": "1", "model_steps": "4"}
    config = load_config("ablation", settings | {"augment.background": "-3.0"})
    monkeypatch.setattr(it_vae_arm, "_config", _quick(it_vae_arm._config))
    inputs = ArmInputs(config, labelled, folder / "own", 0, folder / "shared")
    made = ARMS[name].prepare(inputs).augmentation
    np.testing.assert_array_equal(made.means, found["mixed"].augmentation.means)
    defaults = {"temperature": 1.0, "blend": "pick", "unwarp": True}
    assert {key: getattr(made, key) for key in defaults} == defaults | own
    assert made.mode == mode and made.redraw is None
    assert made.policy == Augmentation(background=-3.0)


def test_half_of_the_samples_are_moved_with_their_labels(prepared):
    """The brain is bright: its label must follow it wherever the map takes it."""
    _, labelled, found = prepared
    record = labelled[0]
    image = jnp.broadcast_to(record["image"], (64, *_SHAPE, 1))
    label = jnp.broadcast_to(jnp.asarray(record["label"]), (64, *_SHAPE))
    moved, classes = jax.jit(found["naive"].augmentation)(
        jax.random.split(jax.random.key(0), 64), image, label
    )
    same = np.asarray(jnp.abs(moved - image).max((1, 2, 3)) < 1e-5)
    assert 16 < same.sum() < 48
    inside = np.asarray(moved)[..., 0] > 0
    assert (inside == (np.asarray(classes) > 0)).mean() > 0.85


def test_a_preset_is_joined_in_one_resampling(prepared, monkeypatch):
    """The learned map with flips and gamma: voxels lie on their labels."""
    folder, labelled, found = prepared
    config = load_config(
        "ablation",
        {
            "data.shape": str(_SHAPE),
            "parallel.data": "1",
            "model_steps": "4",
            "augment.background": "-3.0",
        },
    )
    monkeypatch.setattr(it_vae_arm, "_config", _quick(it_vae_arm._config))
    inputs = ArmInputs(config, labelled, folder / "own", 0, folder / "shared")
    name = "itvae-mixed+flip+gamma"
    made = select_arms([name])[name].prepare(inputs)
    assert made.changes["augment.preset"] == "flip+gamma"
    assert made.augmentation.policy.background == -3
    assert config.augment.preset != "flip+gamma"
    own = made.augmentation
    np.testing.assert_array_equal(own.means, found["mixed"].augmentation.means)
    always = dataclasses.replace(own, probability=1.0)
    image = jnp.broadcast_to(labelled[0]["image"], (8, *_SHAPE, 1))
    label = jnp.broadcast_to(jnp.asarray(labelled[0]["label"]), (8, *_SHAPE))
    keys = jax.random.split(jax.random.key(0), 8)

    @jax.jit
    def both(keys, image, label):
        parameters = {"spatial": sample_spatial(always.policy.spatial, split_keys(keys, 2)[0])}
        flips = parameters["spatial"]["flip"]
        return always(keys, image, label), flips

    (moved, classes), flips = both(keys, image, label)
    inside = np.asarray(moved)[..., 0] > 0
    assert (inside == (np.asarray(classes) > 0)).mean() > 0.85
    assert 0 < np.asarray(flips).sum() < flips.size
    assert own.policy.intensity.gamma is not None


def test_unlabelled_subjects_lend_their_perspective(prepared, monkeypatch, tmp_path):
    """Two labelled, two others: the model has four subjects, and never saw a label."""
    _, labelled, _ = prepared
    config = load_config(
        "ablation", {"data.shape": str(_SHAPE), "parallel.data": "1", "model_steps": "1"}
    )
    monkeypatch.setattr(it_vae_arm, "_config", _quick(it_vae_arm._config))
    shown, real = [], model_training.train
    monkeypatch.setattr(
        model_training,
        "train",
        lambda config, sources, *rest, **keywords: (
            shown.append(sources) or real(config, sources, *rest, **keywords)
        ),
    )
    others = ImagesOnly(Population(2, _SHAPE, start=7))
    two = subset(labelled, (0, 1))
    inputs = ArmInputs(config, two, tmp_path, 0, tmp_path, unlabelled=others)
    made = ARMS["itvae-mixed"].prepare(inputs).augmentation
    assert made.means.shape[0] == 4
    (sources,) = shown
    assert sources.train.info.case_names == (*two.info.case_names, *others.info.case_names)
    assert all(set(sources.train[i]) == {"image"} for i in range(4))


def test_patches_are_refused(prepared, tmp_path):
    _, labelled, _ = prepared
    config = load_config("unet", {"patch_size": "(16, 16)"})
    with pytest.raises(ValueError, match="patch_size"):
        it_vae_arm.train_it_vae(config, labelled, tmp_path, 0, "naive")
