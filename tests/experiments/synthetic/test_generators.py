"""Generators: systems and trained runs that make images of label maps, and known faults."""

import dataclasses
from types import MappingProxyType, SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.data.sources import ArraySource, DatasetInfo
from jaxmedgen.experiments.synthetic import generator_sources
from jaxmedgen.experiments.synthetic.generators import Generator, SystemGenerator
from jaxmedgen.experiments.synthetic.known_generators import Degraded, OracleGenerator
from jaxmedgen.systems.base import build_system
from jaxmedgen.systems.shape.rhvae_content import Content


class Echo:
    """A system that samples: its image is the label, plus noise of its own key."""

    needs_style = False

    def sample(self, variables, keys, label):
        noise = jax.vmap(lambda key: jax.random.normal(key, label.shape[1:]))(keys)
        return (label + variables["maker"]["gain"] * noise)[..., None].astype(jnp.float32), label


class Stylist(Echo):
    """One that only takes its style from images: their mean."""

    needs_style = True

    def stylise(self, variables, label, style):
        mean = style.mean((1, 2, 3))[:, None, None]
        return (label + mean)[..., None].astype(jnp.float32)


def test_any_system_that_samples_or_stylises_is_a_generator(hearts):
    record = hearts[0]
    image, label = record["image"][None].repeat(3, 0), record["label"][None].repeat(3, 0)
    echo = SystemGenerator(Echo(), {"maker": {"gain": 0.5}}, "echo")
    assert isinstance(echo, Generator)
    made, kept = echo(1, image, label, ["random"] * 3)
    assert np.array_equal(kept, label)
    assert np.array_equal(made, echo(1, image, label, ["random"] * 3)[0])
    assert not np.allclose(made, echo(2, image, label, ["random"] * 3)[0])
    bank = {"C": np.full((2, 64, 64, 1), 7.0, np.float32)}
    stylist = SystemGenerator(Stylist(), {"maker": {"gain": 0.0}}, "stylist", bank)
    made, _ = stylist(1, image, label, ["A", "C", "random"])
    # Intensities have the scale of the image that gave the style, whatever the system's own is.
    ends = [np.percentile(x[[0, 2]], (1, 99), axis=(1, 2, 3)) for x in (made, image)]
    assert np.allclose(*ends, atol=1e-5) and np.allclose(made[1], 7.0, atol=1e-5)
    assert np.corrcoef(made[0].ravel(), label[0].ravel())[0, 1] > 0.9999
    with pytest.raises(ValueError, match="neither samples nor deforms"):
        SystemGenerator(object(), {}, "nothing")


class Translator:
    """One that adds a square of a height of its own, and finds it."""

    domain_names = ("absence", "presence")

    def translate(self, variables, keys, image, target):
        height = 5 + jax.vmap(lambda key: jax.random.uniform(key, (1, 1, 1)))(keys)
        assert target == "presence"
        return image.at[:, 4:8, 4:8].set(jnp.broadcast_to(height, (len(image), 4, 4, 1)))

    def predict(self, variables, image):
        return jax.nn.one_hot((image[..., 0] >= 5).astype(jnp.int32), 2)


class Joint:
    """A model of images and label maps of two kinds: image and label have the kind's number."""

    levels = MappingProxyType({"z": 3})
    content = Content("both", 1, 3)
    condition_keys, kinds = ("target",), 2

    def target(self, batch):
        raise NotImplementedError

    encode_levels = target

    def prior_levels(self, variables, noise, batch):
        return noise

    def decode_levels(self, variables, latents, batch):
        kind = batch["target"] + 1
        image = jnp.broadcast_to(kind[:, None, None, None] + 0.0, batch["image"].shape)
        label = jnp.broadcast_to(jax.nn.one_hot(kind, 3)[:, None, None], (*image.shape[:-1], 3))
        return jnp.concatenate([image, label], -1)


def test_systems_that_translate_or_model_are_generators(hearts):
    """Findings are added with the system's own segmentation; models look at no subject."""
    image = np.stack([hearts[i % 6]["image"] for i in range(8)])
    label = np.stack([hearts[i % 6]["label"] for i in range(8)])
    styles = ["random"] * 8
    translator = SystemGenerator(Translator(), {}, "translator")
    assert translator.renders_labels is False and translator.keeps_classes is False
    made, found = translator(3, image, label, styles)
    assert found.sum() == 8 * 16 and found[:, 4:8, 4:8].all()
    assert np.array_equal(made[:, 8:], image[:, 8:]) and len(np.unique(made[:, 4, 4])) == 8
    made, found = SystemGenerator(Joint(), {}, "joint")(3, image, label, styles)
    assert {1, 2} == set(np.unique(found)) and np.ptp(found, axis=(1, 2)).max() == 0
    alone = Joint()
    alone.content = Content("image", 1, 3)
    with pytest.raises(ValueError, match="images or label maps alone"):
        SystemGenerator(alone, {}, "alone")


class Vendors(Echo):
    """One that samples in styles with names, slices first in stacks."""

    style_names = ("A", "B")

    def sample_style(self, variables, keys, label, style):
        made, label = self.sample(variables, keys, label)
        return made * (1.0 if style == "A" else -1.0), label


def test_volumes_are_made_slice_by_slice(hearts, monkeypatch, tmp_path):
    """Slices along the thickest axis, last here; one image has one style; names are heeded."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, (2, 8, 6, 4)).astype(np.int32)
    image = rng.random((2, 8, 6, 4, 1)).astype(np.float32)
    info = SimpleNamespace(class_names=("background", "a", "b"), spacing=(1.0, 1.0))
    run = SimpleNamespace(system=Vendors(), config=SimpleNamespace(system="echo"), info=info)
    run.variables = lambda: ({"maker": {"gain": 0.0}}, 3)
    monkeypatch.setattr(generator_sources, "open_run", lambda workdir: run)
    records = [{"image": i, "label": k} for i, k in zip(image, label)]
    volumes = DatasetInfo(info.class_names, ("mr",), (1.0, 1.0, 8.0), ("s0", "s1"))
    source = ArraySource(records, volumes)
    generator = generator_sources.trained_run(tmp_path)(source, tmp_path, 0)
    made, kept = generator(0, image, label, ["random", "random"])
    assert made.shape == image.shape and np.array_equal(kept, label)
    assert np.corrcoef(made.ravel(), label.ravel())[0, 1] > 0.99
    seen = {}
    sample = Echo.sample
    monkeypatch.setattr(Echo, "sample", lambda *a: seen.update(shape=a[-1].shape) or sample(*a))
    generator = generator_sources.trained_run(tmp_path)(source, tmp_path, 0)
    styled, _ = generator(0, image, label, ["A", "B"])
    assert seen["shape"] == (2, 4, 8, 6)  # slices first, as systems of slices take stacks
    assert np.corrcoef(styled[0].ravel(), label[0].ravel())[0, 1] > 0.99
    assert np.corrcoef(styled[1].ravel(), label[1].ravel())[0, 1] < -0.99
    flat = dataclasses.replace(volumes, spacing=(1.0,))
    with pytest.raises(ValueError, match="images of 2 axes, these subjects have 1"):
        generator_sources.trained_run(tmp_path)(ArraySource(records, flat), tmp_path, 0)
    with pytest.raises(ValueError, match="cannot make volumes"):
        SystemGenerator(Translator(), {}, "translator", slice_axis=2)


def test_a_style_that_nobody_knows_is_named(hearts):
    """Instead of a random one under its name; a known one stays itself beside random ones."""
    image, label = (np.stack([hearts[i][k] for i in range(2)]) for k in ("image", "label"))
    bank = {"C": image}  # of no use to a system that reads no styles from images
    vendors = SystemGenerator(Vendors(), {"maker": {"gain": 0.0}}, "vendors", bank)
    for unknown in ("C", "D"):
        with pytest.raises(ValueError, match=f"no style '{unknown}', its styles are A, B"):
            vendors(0, image, label, ["A", unknown])
    made, _ = vendors(0, image, label, ["B", "random"])
    assert np.corrcoef(made[0].ravel(), label[0].ravel())[0, 1] < -0.99
    assert np.corrcoef(made[1].ravel(), label[1].ravel())[0, 1] > 0.99


@pytest.mark.parametrize("data", ["phantoms", "volumes"])
def test_generators_of_volumes_have_settings_for_them(monkeypatch, tmp_path, data):
    """Shown whole, or cut into slices where the configuration says so; nothing is trained."""
    label = np.random.default_rng(0).integers(0, 3, (2, 16, 24, 8)).astype(np.int32)
    records = [{"image": np.float32(k)[..., None], "label": k} for k in label]
    info = DatasetInfo(("background", "a", "b"), ("mr",), (1.0, 1.0, 8.0), ("s0", "s1"))
    seen = {}

    def train(config, source, folder):
        seen.update(config=config, source=source)
        return Vendors(), {"maker": {"gain": 0.0}}

    monkeypatch.setattr(generator_sources, "train_model", train)
    monkeypatch.setattr(generator_sources, "read_metrics", lambda *_, **__: [])
    make = generator_sources.trained_on(f"cardiac_synthesis:cpu,data={data}")
    generator, cut = make(ArraySource(records, info), tmp_path, 0), data == "volumes"
    config, source = seen["config"], seen["source"]
    assert config.data.shape == ((16, 24) if cut else (16, 24, 8))
    assert config.intensity == "volume" and config.augment.quarter_turns == (0.7 if cut else 0.0)
    assert config.model.levels == 2 and len(source) == (16 if cut else 2)
    assert build_system(config, source.info).shape == config.data.shape
    made, _ = generator(0, np.stack([r["image"] for r in records]), label, ["A", "B"])
    assert made.shape == (*label.shape, 1)
    assert np.corrcoef(made[0].ravel(), label[0].ravel())[0, 1] > 0.99


def test_a_trained_run_is_shown_labels_of_its_own_classes(hearts, monkeypatch, tmp_path):
    known = SimpleNamespace(class_names=("background", "heart"), spacing=(2.5, 2.5))
    run = SimpleNamespace(system=Echo(), config=SimpleNamespace(system="echo"), info=known)
    run.variables = lambda: ({"maker": {"gain": 0.0}}, 3)
    monkeypatch.setattr(generator_sources, "open_run", lambda workdir: run)
    merged = (0, 1, 1, 1, 0, 0, 0, 0), ("background", "heart")
    generator = generator_sources.trained_run(tmp_path, {}, *merged)(hearts, tmp_path, 0)
    image, label = hearts[0]["image"][None], hearts[0]["label"][None]
    made, kept = generator(0, image, label, ["random"])
    assert np.array_equal(kept, label) and len(np.unique(kept)) > 4
    heart = np.isin(label, (1, 2, 3))
    assert len(np.unique(made)) == 2 and np.ptp(made[heart]) == np.ptp(made[~heart]) == 0
    with pytest.raises(ValueError, match="trained on the classes background, heart, these"):
        generator_sources.trained_run(tmp_path)(hearts, tmp_path, 0)


def test_faults_are_what_they_are_called(hearts):
    image = np.stack([hearts[i]["image"] for i in range(4)])
    label = np.stack([hearts[i]["label"] for i in range(4)])
    styles = ["A"] * 4
    sound, kept = OracleGenerator()(0, image, label, styles)
    permuted, moved = Degraded(OracleGenerator(), "permuted")(0, image, label, styles)
    assert np.array_equal(permuted, sound) and np.array_equal(moved, kept[[3, 0, 1, 2]])
    blurred, _ = Degraded(OracleGenerator(), "blurred")(0, image, label, styles)
    noisy, _ = Degraded(OracleGenerator(), "noisy")(0, image, label, styles)

    class Bright:
        name = "in units of their own"

        def __call__(self, *_):
            return 100 * sound - 40, label

    scaled, _ = Degraded(Bright(), "noisy")(0, image, label, styles)  # whatever the scale is
    np.testing.assert_allclose(scaled, 100 * noisy - 40, atol=1e-2)
    roughness = [np.abs(np.diff(x, axis=1)).mean() for x in (blurred, sound, noisy)]
    assert roughness == sorted(roughness)
    Bright.warnings = ("collapsed",)
    assert Degraded(Bright(), "noisy").warnings == ("collapsed",)
    assert Degraded(OracleGenerator(), "noisy").warnings == ()


def test_a_collapsed_generator_has_one_image_a_style(hearts):
    """As sharp as the sound one's, hardly changed, and the same in later calls."""
    image = np.stack([hearts[i]["image"] for i in range(4)])
    label = np.stack([hearts[i]["label"] for i in range(4)])
    single = Degraded(OracleGenerator(), "collapsed")
    first, kept = single(0, image, label, ["A", "B", "A", "B"])
    later, same = single(1, image[2:], label[2:], ["B", "A"])  # sets are made in several calls
    found = {"A": (*first[::2], later[1]), "B": (*first[1::2], later[0])}
    labels = {"A": (*kept[::2], same[1]), "B": (*kept[1::2], same[0])}
    for number, style in enumerate("AB"):
        only = slice(number, number + 1)
        sound, _ = OracleGenerator()(0, image[only], label[only], [style])
        assert all(np.array_equal(x, label[number]) for x in labels[style])
        assert len({x.tobytes() for x in found[style]}) == 3
        for one in found[style]:
            assert np.corrcoef(one.ravel(), sound.ravel())[0, 1] > 0.95
            edges = [np.abs(np.diff(x, axis=a)).mean() for x in (one, sound[0]) for a in (0, 1)]
            assert 0.8 < (edges[0] + edges[1]) / (edges[2] + edges[3]) < 1.2
    between = np.abs(found["A"][0] - found["B"][0]).mean()
    assert np.abs(found["A"][0] - found["A"][1]).mean() < between / 3
