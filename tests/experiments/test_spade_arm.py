"""The spade arms: synthetic images of the labelled subjects, in their window, 2D and 3D."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.phantoms.shapes import Shapes
from jaxmedgen.data.sources import ArraySource, DatasetInfo, in_memory
from jaxmedgen.experiments import label_vae_arm, spade_arm
from jaxmedgen.experiments.arms import ARMS, ArmInputs
from jaxmedgen.experiments.label_space import LabelSpace


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Trainings of two steps of a small generator; puts back the cache folder."""
    before = jax.config.jax_compilation_cache_dir
    whole = spade_arm.generator_config

    def small(*arguments):
        config = whole(*arguments)
        with config.unlocked():
            config.model.update(width=2, style_width=2, levels=1, modulation="clade", latent=4)
            config.discriminator.update(features=(4, 4), scales=1)
            config.features.kind = "gradients"
        return config

    monkeypatch.setattr(spade_arm, "generator_config", small)
    monkeypatch.setattr(spade_arm, "IMAGES", 2)
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def test_a_subject_without_foreground_keeps_its_map():
    """There is no place for a new stack, and it is no reason to end a study."""
    own = np.zeros((10, 16, 16), np.int32)
    np.testing.assert_array_equal(spade_arm.placed(np.ones((8, 16, 16), np.int32), own, 2), own)


def inputs(shape, folder):
    config = load_config("ablation", {"parallel.data": "1", "model_steps": "2"})
    # Intensities of their own: synthetic images must be brought to them.
    source = in_memory(Shapes(3, shape, seed=1))
    for record in source.records:
        record["image"] = 100 + 20 * record["image"]
    return ArmInputs(config, source, folder / "arm", 0, folder / "shared")


def test_volumes_are_made_of_slices_in_one_style(tmp_path):
    given = inputs((16, 16, 8), tmp_path)
    training = ARMS["spade"].prepare(given)
    shown = training.source
    assert len(shown) == 3 * 2 + 3 * 2  # half of them real
    assert shown.info.num_classes == 3
    assert training.seconds > 0
    for number, name in enumerate(shown.info.case_names):
        image, label = shown[number]["image"], shown[number]["label"]
        assert image.shape == (16, 16, 8, 1) and image.dtype == np.float32
        assert np.isfinite(image).all() and label.shape == (16, 16, 8)
        if "synthetic" in name:
            subject = given.labelled[given.labelled.info.case_names.index(name.split("-syn")[0])]
            np.testing.assert_array_equal(label, subject["label"])
            low, high = np.percentile(subject["image"], (1, 99))
            assert low - 1e-3 <= image.min() and image.max() <= high + 1e-3
    # Two images of one subject differ in style alone; finished trainings are read.
    first, second = (shown[6 + k]["image"] for k in range(2))
    assert np.abs(first - second).max() > 0
    again = ARMS["spade"].prepare(given)
    np.testing.assert_allclose(again.source[7]["image"], second, atol=1e-3)


def test_new_label_maps_take_the_place_of_the_subjects(tmp_path, monkeypatch):
    """Without training: the generator shows the class in its place, the sampler has two maps."""
    given = inputs((32, 32), tmp_path)
    new = np.stack([np.full((32, 32), k, np.int32) for k in range(2)])
    monkeypatch.setattr(
        spade_arm, "train_label_vae", lambda *_, **__: lambda rng, count: new[:count]
    )

    def draw(keys, label, style):
        return label[..., None] - 1.0, label

    generator = spade_arm.Generator(draw, None, 0.0)
    labels = spade_arm.label_draws(given.config, given.labelled, tmp_path, 0)
    made = spade_arm.synthetic_images(generator, given.labelled, 0, labels)
    assert len(made) == 3 * 2
    for number in range(6):
        record, subject = made[number], given.labelled[number // 2]
        np.testing.assert_array_equal(record["label"], new[number % 2])
        low, high = np.percentile(subject["image"], (1, 99))
        expected = low if number % 2 == 0 else (low + high) / 2
        np.testing.assert_allclose(record["image"], expected, rtol=1e-5)


def test_label_maps_of_isotropic_volumes_are_drawn_along_one_axis(tmp_path, monkeypatch):
    """Axes are told apart by their sizes; latents are the slices themselves, and nobody trains."""
    label = np.zeros((8, 10, 7), np.int32)
    label[1:6, 2:9, 2:6] = 1
    label[3:6, 6:9, 2:6] = 0
    info = DatasetInfo(("background", "heart"), ("image",), (1.0, 1.0, 1.0), ("scan",))
    labelled = ArraySource([{"label": label}], info)

    def encode(slices):
        flat = slices.reshape(len(slices), -1).astype(np.float32)
        return flat, np.zeros_like(flat)

    def decode(latents):
        return latents.reshape(-1, 16, 16).round().astype(np.int32)

    monkeypatch.setattr(label_vae_arm, "train_model", lambda *_, **__: (None, None))
    space = LabelSpace(encode, decode, (16, 16), heart=False)
    monkeypatch.setattr(label_vae_arm, "open_space", lambda *_: space)
    config = load_config("ablation", {"parallel.data": "1", "model_steps": "2"})
    draw = spade_arm.label_draws(config, labelled, tmp_path, 0)
    for made in draw(0):
        np.testing.assert_array_equal(made, label)


def test_a_new_stack_lies_where_the_old_one_did():
    own = np.zeros((9, 6, 6), np.int32)
    for k, size in zip(range(2, 7), (1, 1, 2, 3, 4)):  # apex first
        own[k, :size, :size] = 1
    stack = np.zeros((32, 6, 6), np.int32)
    stack[:, :5, :5] = 2
    stack[:8, :, :5] = 1
    made = spade_arm.placed(stack, own, 3)
    np.testing.assert_array_equal((made > 0).any((1, 2)), (own > 0).any((1, 2)))
    assert (made[6] == 1).any() and not (made[2] == 1).any(), "base where the old one's is"


def test_whole_volumes_are_an_option():
    """The volumetric generator is built for 3D data of any classes; nothing is computed."""
    from jaxmedgen.systems.base import build_system

    labelled = Shapes(2, (16, 12, 20))
    config = load_config("unet:cpu,arm=none")
    made = spade_arm.generator_config(config, labelled, 0)
    system = build_system(made, labelled.info)
    assert system.shape == (16, 12, 20) and system.turns is None
    state = jax.eval_shape(system.init, jax.random.key(0), {})
    variables = {name: p.evaluation_variables() for name, p in state.players.items()}
    label = jnp.zeros((2, 16, 12, 20), jnp.int32)
    image, _ = jax.eval_shape(
        system.sample, variables, jax.random.split(jax.random.key(0), 2), label
    )
    assert image.shape == (2, 16, 12, 20, 1)
