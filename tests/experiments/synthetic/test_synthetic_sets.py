"""Synthetic sets and the anatomies in them: recipes, styles, stored files, chosen subjects."""

import dataclasses
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from jaxmedgen.augment.label_deformation import Rotation
from jaxmedgen.configuration import load_config
from jaxmedgen.data.case_groups import groups_of
from jaxmedgen.data.folders import FolderSource
from jaxmedgen.data.phantoms.heart_slices import HeartSlices
from jaxmedgen.data.preprocess import Preprocessing
from jaxmedgen.data.sources import ArraySource, DatasetInfo, in_memory
from jaxmedgen.experiments.label_synthesis import Population
from jaxmedgen.experiments.synthetic import anatomy, generators, label_models
from jaxmedgen.experiments.synthetic.anatomy import (
    changed_by,
    deformation_of,
    elastic,
    interpolated,
    pathology,
)
from jaxmedgen.experiments.synthetic.generators import SystemGenerator
from jaxmedgen.experiments.synthetic.known_generators import OracleGenerator
from jaxmedgen.experiments.synthetic.manifest import read_manifest
from jaxmedgen.experiments.synthetic.selection import rare_groups, size_tails
from jaxmedgen.experiments.synthetic.synthetic_set import Recipe, build_set, write_set
from jaxmedgen.systems.synthesis.rendering import RendersLabels


def test_a_set_is_a_function_of_its_recipe(hearts, tmp_path):
    recipe = Recipe(elastic(hearts.info.spacing, rotation=20), "rot+elastic", "own", seed=4)
    groups = groups_of(hearts.info.case_names, "^([^-]+)-")
    one, again = (build_set(hearts, OracleGenerator(), recipe, 9, groups=groups) for _ in range(2))
    assert one.manifest == again.manifest
    other = build_set(
        hearts, OracleGenerator(), dataclasses.replace(recipe, seed=5), 9, groups=groups
    )
    assert other.manifest["version"] != one.manifest["version"]
    assert (one.manifest["anatomies"], one.manifest["styles"], one.manifest["count"]) == (9, 2, 9)
    # Subjects take turns, and images have the style of theirs.
    subjects = [e["subject"] for e in one.manifest["images"]]
    assert len(set(subjects[:6])) == 6
    assert all(e["style"] == e["subject"][0] for e in one.manifest["images"])
    write_set(one, tmp_path)
    stored = FolderSource(str(tmp_path), Preprocessing("native", None, False, normalization="none"))
    assert read_manifest(tmp_path)["version"] == one.manifest["version"]
    assert stored.info.case_names == one.source.info.case_names
    assert np.allclose(stored[3]["image"], one.source[3]["image"], atol=1e-6)
    assert np.array_equal(stored[3]["label"], one.source[3]["label"])


def angle(mask):
    """Of the longest axis of a mask, by its second moments."""
    (a, b), (_, c) = np.cov(np.argwhere(mask).T)
    return 0.5 * np.arctan2(2 * b, a - c)


def test_styles_know_nothing_of_anatomies(monkeypatch):
    """Angles of turned bars against the latent vectors that they are rendered with."""

    class Latent(RendersLabels):
        net = SimpleNamespace(latent=4, vendors=0, deterministic=False, style=None)

        def render(self, variables, label, z, vendor=None):
            return jnp.broadcast_to(z[:, :1, None, None], (*label.shape, 1))

    monkeypatch.setattr(generators, "in_window_of", lambda made, like: made)
    bar = np.zeros((32, 32), np.int32)
    bar[4:28, 14:18] = 1
    info = DatasetInfo(("background", "bar"), ("mr",), (1.0, 1.0), ("one",))
    source = ArraySource([{"image": np.float32(bar)[..., None], "label": bar}], info)
    turned = changed_by(Rotation((1.0, 1.0), 20, probability=1.0))
    recipe = Recipe(turned, "turned", "random", seed=3)
    made = build_set(source, SystemGenerator(Latent(), {}, "latent"), recipe, 96).source.records
    angles = [angle(r["label"] == 1) for r in made]
    first = [r["image"][0, 0, 0] for r in made]
    assert np.ptp(angles) > np.deg2rad(30) and np.std(first) > 0.7
    assert abs(scipy.stats.spearmanr(angles, first)[0]) < 0.25


def test_diseases_and_renderings_have_draws_of_their_own(monkeypatch):
    label, seen = np.zeros((256, 4, 4), np.int32), []
    monkeypatch.setattr(anatomy, "_reshape", lambda one, factors, _: seen.append(factors) or one)
    pathology(("HCM",))(5, label)

    def drawn(rng, tissues, style):
        return np.full(tissues.shape, rng.uniform())

    made, _ = OracleGenerator(drawn)(5, np.float32(label)[..., None], label, ["A"] * 256)
    factors = np.array(seen)[:, 0]
    assert np.std(factors) > 0.02 and np.std(made[:, 0, 0, 0]) > 0.2
    assert abs(scipy.stats.spearmanr(factors, made[:, 0, 0, 0])[0]) < 0.2
    seeds = []
    monkeypatch.setattr(label_models, "synthesise", lambda *a: seeds.append(a[2]))
    monkeypatch.setattr(label_models, "replaced", lambda one, *_: one)
    label_models.hearts_of(object.__new__(Population), "between", (1.0, 1.0))(5, label)
    oracle = [np.random.default_rng((5, k)).integers(2**31) for k in range(256)]
    assert len(seeds) == 256 and not set(seeds) & set(oracle)


def test_styles_and_anatomies_are_counted_apart(hearts):
    groups = groups_of(hearts.info.case_names, "^([^-]+)-")
    same = build_set(hearts, OracleGenerator(), Recipe(style="random"), 12, groups=groups)
    assert (same.manifest["anatomies"], same.manifest["styles"]) == (6, 12)
    other = Recipe(style="other", vendors=("A", "B"))
    swapped = build_set(hearts, OracleGenerator(), other, 6, groups=groups)
    assert all(e["style"] != e["subject"][0] for e in swapped.manifest["images"])
    with pytest.raises(ValueError, match="'other' chooses"):
        Recipe(style="other")
    with pytest.raises(ValueError, match="does not match"):
        groups_of(["x"], "^([^-]+)-")


def test_pathology_gives_hearts_the_shape_of_diseases(hearts):
    label = np.stack([hearts[i]["label"] for i in range(6)])

    def sizes(disease):
        made = pathology((disease,))(3, label)
        return np.array([[(m == k).sum() for k in (1, 2, 3)] for m in made]).mean(0)

    before = np.array([[(m == k).sum() for k in (1, 2, 3)] for m in label]).mean(0)
    dilated, thick, right = sizes("DCM"), sizes("HCM"), sizes("RV")
    assert dilated[0] > 1.3 * before[0]
    assert thick[1] > 1.3 * before[1] and thick[0] < before[0]
    assert right[2] > 1.2 * before[2] and np.allclose(right[:2], before[:2])
    assert np.array_equal(pathology(("NOR",))(0, label), label)
    with pytest.raises(ValueError, match="diseases"):
        pathology(("FLU",))


def test_volumes_are_deformed_within_their_slices_and_never_fold():
    """Thick slices along the last axis; so small that 14 mm would fold."""
    label = np.zeros((2, 32, 32, 6), np.int32)
    label[:, 8:24, 10:20] = np.arange(1, 7)  # a class a slice
    made = elastic((1.0, 1.0, 8.0), rotation=20)(0, label)
    for k in range(6):
        assert set(np.unique(made[..., k])) == {0, k + 1}
        for one in made[..., k] > 0:
            assert scipy.ndimage.label(one)[1] == 1
            assert abs(int(one.sum()) - 160) < 60
    assert (made != label).any()
    flat = elastic((1.0, 1.0), rotation=20)(0, label[..., 2])
    assert (flat != label[..., 2]).any()


def test_without_known_vendors_styles_are_the_subjects_own(hearts):
    seen = []

    class Spy:
        name = "spy"

        def __call__(self, seed, image, label, styles):
            seen.extend(styles)
            return image, label

    made = build_set(hearts, Spy(), Recipe(style="own"), 4)
    assert set(seen) == {"own"} and made.manifest["styles"] == 4
    assert build_set(hearts, OracleGenerator(), Recipe(style="own"), 4).manifest["count"] == 4


def test_interpolation_goes_through_the_codes():
    class Codes:
        def encode_labels(self, variables, label):
            z = label.reshape(len(label), -1).astype(jnp.float32)
            return z, z

        def decode_labels(self, variables, z):
            return (z > 0.5).astype(jnp.int32).reshape(-1, 2, 2)

    label = np.array([[[1, 0], [0, 0]], [[1, 1], [0, 0]]], np.int32)
    made = interpolated(Codes(), {})(0, label)
    assert (made[:, 0, 0] == 1).all() and (made[:, 1] == 0).all()
    with pytest.raises(ValueError, match=r"work/vae makes .*\(4, 4\).*\(2, 2\): train a model"):
        interpolated(Codes(), {}, (4, 4), "work/vae")(0, label)


def test_a_model_of_other_classes_is_named(tmp_path, monkeypatch):
    """Organs around the heart are not in its label maps: they would be lost."""

    class Codes:
        def encode_labels(self, variables, label):
            raise NotImplementedError

        decode_labels = encode_labels

    heart = ("background", "lv_blood", "lv_myocardium", "rv_blood")
    run = SimpleNamespace(system=Codes(), config=load_config("label_deformation:cpu"), patients=())
    run.info, run.variables = DatasetInfo(heart, (), (1.0, 1.0), ()), lambda: ({}, 0)
    monkeypatch.setattr(anatomy, "open_run", lambda _: run)
    names = (*heart, "liver")
    with pytest.raises(ValueError, match=r"rv_blood, these subjects have .*liver: train.*FOLDER:b"):
        deformation_of(str(tmp_path), (1.0, 1.0), (), names)
    deform = deformation_of(str(tmp_path), (1.0, 1.0), (), heart)
    with pytest.raises(ValueError, match=r"\(64, 64\) voxels, these subjects have \(48, 48\)"):
        deform(0, np.zeros((2, 48, 48), np.int32))


def test_tails_and_rare_groups():
    source = in_memory(HeartSlices(8, seed=1, diseases=("NOR", "NOR", "NOR", "DCM")))
    sizes = [(r["label"] > 0).sum() for r in source.records]
    assert {int(np.argmin(sizes)), int(np.argmax(sizes))} <= set(size_tails(source))
    assert rare_groups("^[^-]+-([^-]+)-")(source) == (3, 7)
