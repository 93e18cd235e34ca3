"""Claims on manifold sampling: every seed must hold, means decide the size."""

import jax.numpy as jnp
import numpy as np

from jaxmedgen.experiments.classification import Scores
from jaxmedgen.experiments.reproductions import rhvae
from jaxmedgen.experiments.reproductions.manifold import digits, junctions
from jaxmedgen.experiments.reproductions.manifold.pictures import longest_detour
from jaxmedgen.experiments.reproductions.record import Options
from jaxmedgen.ops.riemannian_metric import metric_of_factors


def scores(vae, prior, manifold, raw_vae, raw_manifold):
    sets = (*junctions.SETS, *(f"raw + {name}" for name in junctions.SETS))
    values = (vae, prior, manifold, raw_vae, 0.0, raw_manifold)
    return {
        name: Scores((value - 1.0, value + 1.0), (value + 0.0,) * 2)
        for name, value in zip(sets, values)
    }


def test_claims_are_paired_by_seed():
    found = [scores(75, 74, 79, 78, 80), scores(77, 80, 79, 79, 79)]
    claims = {claim.name: claim for claim in rhvae.accuracy_claims(found)}
    measured = [(claim.measured, claim.holds) for claim in claims.values()]
    assert measured == [(2, True), (3, True), (-1, False), (2, True), (1, True)]
    table = rhvae.accuracy_table([found[0] | {"HVAE, prior": Scores((70.0,), (70.0,))}, found[1]])
    assert "| HVAE, prior | 70.0 | - | 70.0 |" in table
    looks = {("rhvae", 0): {"median eigenvalue": 0.4}, ("exact", 0): {"median eigenvalue": 0.01}}
    reference, exact = rhvae.geometry_claims(looks)
    assert not reference.holds and abs(reference.measured - 2.5) < 1e-9 and exact.holds


def test_the_way_that_is_shown_goes_round_the_hole():
    """Nine centroids on three quarters of a circle of radius 2, T = 0.8."""
    angle = np.linspace(0, 1.5 * np.pi, 9)
    ring = jnp.asarray(2 * np.stack([np.cos(angle), np.sin(angle)], -1), jnp.float32)
    metric = metric_of_factors(ring, jnp.tile(jnp.eye(2), (9, 1, 1)), 0.8, 1e-3)
    path, line = longest_detour(metric)
    np.testing.assert_allclose(path[[0, -1]], line[[0, -1]], atol=1e-5)
    assert np.linalg.norm(line, axis=-1).min() < 1.5  # through the hole
    assert np.linalg.norm(path, axis=-1).min() > 1.5  # along the circle


def test_digits_are_compared_as_published(tmp_path):
    means = dict(zip(digits.PUBLISHED, (85, 90, 70, 76, 87, 84, 85, 86)))
    every = {name: Scores((value - 1.0, value + 1.0), (0.0, 0.0)) for name, value in means.items()}
    found = digits.DigitScores(every, 9500, np.zeros((1, 1, 3), np.uint8), 1.0)
    assert [(c.measured, c.holds) for c in digits.claims(found)] == [
        (17, True),
        (11, True),
        (1, True),
    ]
    assert "| RHVAE, manifold | 87.0 | 87.2 |" in digits.table(found)
    options = Options(tmp_path, data="digits", overrides={"steps": "7"})
    config = digits.configuration(options, "rhvae")
    assert (config.steps, config.checkpoint_every, config.model.latents) == (7, 7, 10)
    assert config.data.folder == "digits" and config.data.train == 10 * 40
