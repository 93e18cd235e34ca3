"""Walks, mean shapes of classes and baselines of shape classification on tiny problems."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from jaxmedgen.data.phantoms import left_ventricle as lv
from jaxmedgen.experiments.remodelling import baselines, pictures, population
from jaxmedgen.experiments.remodelling.evaluation import evaluate_classes
from jaxmedgen.experiments.remodelling.navigation import walk
from jaxmedgen.experiments.remodelling.outcome import observe
from jaxmedgen.systems import base
from tests.systems.test_lvae import small


def test_an_untrained_model_is_observed_walked_and_sampled(tmp_path):
    _, sources, system = small()
    state = jax.jit(system.init)(jax.random.key(0), {})
    variables = base.evaluation_variables(state)
    seen = observe(system, variables, sources.train)
    image = jnp.stack([sources.train[i]["image"] for i in range(8)])
    whole = np.asarray(jax.jit(system.reconstruct)(variables, image)) > 0.5
    np.testing.assert_array_equal(seen.kept[:, -1], whole)
    assert seen.dice().shape == (2, 8) and seen.kept.shape[1] == 2
    assert seen.target.tolist() == [0, 1] * 4

    start = seen.latents["z1"].mean(0)
    found = walk(system, variables, start, radius=5.0, draws=2)
    assert found.probability[-1] > found.probability[0]
    np.testing.assert_allclose(found.latents[0], start, atol=1e-6)
    assert np.linalg.norm(found.latents, axis=1).max() <= 5.0 + 1e-4
    assert found.shapes.shape == (5, 16, 16, 16, 2) and found.random.shape[0] == 2

    shapes = population.class_shapes(system, variables, seen.latents["z1"], seen.target, draws=50)
    assert set(shapes) == {0, 1} and all(0 < s.min() and s.max() < 1 for s in shapes.values())

    scores = evaluate_classes(system, variables, sources.train, tmp_path, Console(quiet=True), 3)
    assert dataclasses.asdict(scores) == dataclasses.asdict(seen.scores)
    assert len(json.loads((tmp_path / "classes.json").read_text())["probability"]) == 8


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


def test_draws_of_a_class_have_its_moments():
    rng = np.random.default_rng(0)
    means = rng.multivariate_normal([3.0, -1.0], [[1.0, 0.6], [0.6, 2.0]], 400)
    for density, atol in (("gaussian", 0.15), ("kde", 0.3)):
        drawn = population.draw_class(np.random.default_rng(1), means, 4000, density)
        np.testing.assert_allclose(drawn.mean(0), means.mean(0), atol=0.1)
        np.testing.assert_allclose(np.cov(drawn.T), np.cov(means.T), atol=atol)
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
