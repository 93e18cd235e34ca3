"""Walks, mean shapes of classes and baselines of shape classification on tiny problems."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from scipy.stats import norm

from jaxmedgen.data.phantoms import left_ventricle as lv
from jaxmedgen.data.sources import ArraySource
from jaxmedgen.experiments.remodelling import baselines, pictures, population
from jaxmedgen.experiments.remodelling.evaluation import evaluate_classes
from jaxmedgen.experiments.remodelling.navigation import walk
from jaxmedgen.experiments.remodelling.outcome import observe
from jaxmedgen.experiments.reproductions.hcm_vae import stalled_note
from jaxmedgen.systems import base
from jaxmedgen.systems.shape.lvae import LadderShapeVae
from tests.systems.test_lvae import small


class Linear(LadderShapeVae):
    """Scores are linear in the top vector; shapes are boxes that grow with its first entry."""

    def scores(self, variables, z):
        return jnp.stack([jnp.zeros(len(z)), z[:, 0]], -1)

    def decode_below(self, variables, given, noise=None):
        z = given[self.top]
        place = jnp.arange(16.0)[:, None, None, None] * jnp.ones((16, 16, 16, 2))
        return jax.nn.sigmoid(8 * (z[:, 0, None, None, None, None] - place + 4))

    def classify(self, variables, image):
        return jax.nn.softmax(self.scores(variables, image[:, 0, 0, 0] * 4 - 2))


def linear():
    """The toy, with the settings of a small ladder."""
    system = small()[2]
    return Linear(**{f.name: getattr(system, f.name) for f in dataclasses.fields(system)})


def test_all_subjects_are_classified_encoded_and_reconstructed():
    _, sources, system = small()
    variables = base.evaluation_variables(jax.jit(system.init)(jax.random.key(0), {}))
    seen = observe(system, variables, sources.train)
    assert seen.dice().shape == (2, 8) and seen.kept.shape == (8, 2, 16, 16, 16, 2)
    assert seen.target.tolist() == [0, 1] * 4 and set(seen.latents) == {"z0", "z1"}
    image = np.stack([sources.train[i]["image"] for i in range(8)]) > 0.5
    overlap = (seen.kept[:, -1] & image).sum((1, 2, 3))
    volume = seen.kept[:, -1].sum((1, 2, 3)) + image.sum((1, 2, 3))
    np.testing.assert_allclose(seen.dice(), (2 * overlap / volume).T, rtol=1e-6)


def test_a_walk_goes_where_the_score_rises():
    found = walk(linear(), {}, np.array([-2.0, 0.5], np.float32), radius=6.0, draws=2)
    # Each step is 0.1 along the first axis; log(999) = 6.9 lies beyond the radius.
    np.testing.assert_allclose(np.diff(found.latents[:40, 0]), 0.1, atol=1e-5)
    assert found.latents[-1, 0] == pytest.approx(6.0, abs=0.01)
    assert np.linalg.norm(found.latents, axis=1).max() <= 6.0 + 1e-4 and found.monotone
    # From 2 voxels to 10: Dice of the boxes; both halves across the axis gain alike.
    assert found.kept == pytest.approx(2 * 2 / (2 + 10), abs=0.06)
    assert found.septal_share()[0] == pytest.approx(0.5)
    assert found.shapes.shape == (5, 16, 16, 16, 2) and found.random.shape[0] == 2


def test_mean_shapes_average_probabilities_of_class_draws():
    rng = np.random.default_rng(0)
    means = np.concatenate([rng.normal(0, 1, (100, 2)), rng.normal(4, 1, (100, 2))])
    target = np.repeat([0, 1], 100)
    shapes = population.class_shapes(linear(), {}, means, target, draws=400)
    # A box with an edge that is normal about 4 (8): half of the draws reach it.
    for kind, edge in ((0, 4), (1, 8)):
        profile = shapes[kind][:, 0, 0, 0]
        spread = means[target == kind, 0]
        expected = norm.sf(np.arange(16) - edge, spread.mean() - 4 * kind, spread.std())
        np.testing.assert_allclose(profile, expected, atol=0.08)


def test_classes_of_a_run_are_scored_and_written(tmp_path):
    masks = [np.full((2, 2, 2, 2), float(k % 2), np.float32) for k in range(6)]
    records = [{"image": m, "target": np.int32(k % 2)} for k, m in enumerate(masks)]
    records[0]["target"] = np.int32(1)
    names = tuple(f"case-{k}" for k in range(6))
    info = base.DatasetInfo(("healthy", "HCM"), ("ED", "ES"), (1.0,) * 3, names)
    source = ArraySource(records, info)
    scores = evaluate_classes(linear(), {}, source, tmp_path, Console(quiet=True), 3)
    assert scores.accuracy == pytest.approx(5 / 6) and scores.sensitivity == pytest.approx(3 / 4)
    assert scores.balanced_accuracy == pytest.approx(7 / 8)
    written = json.loads((tmp_path / "classes.json").read_text())
    assert written["step"] == 3 and len(written["probability"]) == 6
    bare = ArraySource([{"image": m} for m in masks], info)
    with pytest.raises(ValueError, match="no 'target'"):
        evaluate_classes(linear(), {}, bare, tmp_path, Console(quiet=True), 3)


def test_thickening_of_true_shapes_is_the_true_thickening():
    """Classes that differ in the septum alone: the maps agree, and lie in the right place."""
    source = lv.LeftVentricles(8, (32, 32, 32), seed=2)
    sick = [source.ventricles(i)[0] for i in (1, 3, 5, 7)]
    plain = lv.Ventricle(24, 80, 8, 0.0, (0.0, 0.0), (-40.0, 0.0, 0.0))
    bump = sick[0].septal
    pair = plain, dataclasses.replace(plain, septal=bump)
    shapes = {k: lv.render_ventricle(v, source.shape)[0][..., None].astype(float)
              for k, v in enumerate(pair)}  # fmt: skip
    one = lv.LeftVentricles(1, (32, 32, 32), seed=2, start=1)
    found = population.thickening(shapes, one, source.info.spacing)
    assert found.correlation > 0.85 and found.inside() > 0.7
    assert np.nanargmax(found.segments) + 1 in (2, 3, 8, 9, 14)
    assert pictures.thickening_views(found).shape[-1] == 3


def test_a_seed_whose_wall_encloses_nothing_is_named():
    note = stalled_note(np.array([0.69, 0.63, 1.0]), [0.5, 0.6, float("nan")])
    assert "The 0.773" in note and "includes seed 2," in note and "the mean is 0.66" in note
    assert not stalled_note(np.array([0.7, 0.6]), [0.5, 0.6])


def test_draws_of_a_class_have_its_moments():
    """A kernel density is wider than its points: covariance times 1 + h^2, h = n^(-1/6)."""
    rng = np.random.default_rng(0)
    means = rng.multivariate_normal([3.0, -1.0], [[1.0, 0.6], [0.6, 2.0]], 400)
    for density, factor in (("gaussian", 1.0), ("kde", 1 + 400 ** (-1 / 3))):
        drawn = population.draw_class(np.random.default_rng(1), means, 20000, density)
        np.testing.assert_allclose(drawn.mean(0), means.mean(0), atol=0.06)
        np.testing.assert_allclose(np.cov(drawn.T), factor * np.cov(means.T), atol=0.08)
    with pytest.raises(ValueError, match="gaussian or kde"):
        population.draw_class(rng, means, 4, "uniform")


def test_clinical_indices_are_those_of_the_geometry():
    source = lv.LeftVentricles(4, (32, 32, 32), seed=1)
    features, target = baselines.clinical_features(source)
    voxel = (lv.FIELD_OF_VIEW / 32) ** 3 / 1000
    for index in range(4):
        muscle, blood = lv.render_ventricle(source.ventricles(index)[0], source.shape)
        assert features[index, 0] == pytest.approx(1.05 * muscle.sum() * voxel)
        assert features[index, 1] == pytest.approx(blood.sum() * voxel, rel=0.12)
        relaxed = source.ventricles(index)[0]
        bump = relaxed.septal.amplitude if relaxed.septal else 0.0
        assert features[index, 4] == pytest.approx(relaxed.wall + bump, abs=2.5)
    assert target.tolist() == [0, 1, 0, 1]
    assert (features[:, 3] > 0.4).all() and (features[:, 3] < 0.85).all()
