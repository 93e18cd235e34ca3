"""What the transformational autoencoder maximises: each term against SciPy or a known value."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from jaxmedgen.configuration import load_config
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.nets.vitae import Posterior, Reconstruction
from jaxmedgen.ops.deformable_transformers import transformer
from jaxmedgen.systems.base import build_system, evaluation_variables
from jaxmedgen.systems.deformation import vitae_bound as terms
from jaxmedgen.systems.deformation.it_vae import PLAYER
from jaxmedgen.systems.deformation.vitae_bound import Criterion
from jaxmedgen.train.objectives import LossInputs

RNG = np.random.default_rng(0)
SHAPE = (16, 16)
INFO = DatasetInfo(("background",), ("ink",), (1.0, 1.0), tuple("abcd"))


def normal(*shape, scale=1.0):
    return jnp.asarray(scale * RNG.normal(size=shape), jnp.float32)


def made(parameters=None, size=3):
    """A pass with random posteriors, draws and images."""
    posteriors = [Posterior(normal(size, 2), normal(size, 2, scale=0.5)) for _ in range(2)]
    variance = jnp.abs(normal(size, *SHAPE, 1)) + 0.1
    images = [normal(size, *SHAPE, 1) for _ in range(2)]
    draws = [p.mean + normal(size, 2) for p in posteriors]
    return Reconstruction(*posteriors, *draws, parameters, images[0], variance, images[1])


def log_normal(x, mean, variance):
    return stats.norm.logpdf(x, mean, np.sqrt(variance)).sum((1, 2, 3))


def test_the_output_s_variance_is_fixed_until_the_warm_up_ends():
    """Afterwards it is the learned one, or fixed all along; 1e-5 is added to each."""
    found, image = made(), normal(3, *SHAPE, 1)
    fixed = log_normal(image, found.mean, 0.3**2 + 1e-5)
    learned = log_normal(image, found.mean, np.asarray(found.variance, np.float64) + 1e-5)
    switched = Criterion(warm_up=10, fixed_deviation=0.3)
    constant = Criterion(warm_up=10, fixed_deviation=0.3, learned_variance=False)
    for criterion, step, expected in (
        (switched, 0, fixed),
        (switched, 9, fixed),
        (switched, 10, learned),
        (constant, 10, fixed),
    ):
        value = terms.log_likelihood(criterion, "gaussian", image, found, step)
        np.testing.assert_allclose(value, expected, rtol=1e-4)


def test_a_draw_s_weight_is_the_quotient_of_densities():
    found, likelihood = made(), normal(3)
    expected = np.zeros(3)
    for z, p in ((found.z_perspective, found.perspective), (found.z_appearance, found.appearance)):
        deviation = np.exp(0.5 * np.asarray(p.log_variance, np.float64))
        expected += (stats.norm.logpdf(z) - stats.norm.logpdf(z, p.mean, deviation)).sum(1)
    np.testing.assert_allclose(
        terms.log_weight(likelihood, found, 1.0), likelihood + expected, rtol=1e-4
    )
    half = terms.log_weight(likelihood, found, 0.5)
    np.testing.assert_allclose(half, likelihood + 0.5 * expected, rtol=1e-4)


def test_free_bits_hold_up_the_perspective_alone():
    small = Posterior(jnp.full((3, 2), 0.1), jnp.zeros((3, 2)))  # 0.005 nats a dimension
    found = made().replace(perspective=small, appearance=small)
    plain = terms.weighted_divergence(Criterion(), found)
    np.testing.assert_allclose(plain, 4 * 0.005, rtol=1e-4)
    held = terms.weighted_divergence(Criterion(free_bits=0.05), found)
    np.testing.assert_allclose(held, 2 * 0.05 + 2 * 0.005, rtol=1e-4)


def test_smoothness_is_the_energy_of_the_velocity():
    """A constant velocity c has ``L v = v``: ``|c|^2 / 2`` a voxel, whatever the linear part."""
    family = transformer("affinediff+svf", 2, grid=4)
    control = np.broadcast_to([1.5, -2.0], (3, 4, 4, 2)).reshape(3, -1)
    parameters = jnp.concatenate([normal(3, 6), jnp.asarray(control, jnp.float32)], 1)
    value = terms.penalties(Criterion(smoothness=0.1), family, made(parameters), jnp.float32(1))
    expected = 0.1 * 0.5 * (1.5**2 + 2.0**2) * 16 * 16
    np.testing.assert_allclose(value, expected, rtol=1e-4)


def test_folding_is_the_negative_part_of_the_determinant():
    """A mirrored axis at half its length has the determinant -1/2 everywhere."""
    family = transformer("affine", 2)
    mirrored = [[-1.5, 0, 0, 0, 0, 0]]
    plain = [[0.5, 0, 0, 0, 0, 0]]
    for parameters, expected in ((mirrored, 0.5), (plain, 0.0)):
        found = made(jnp.asarray(parameters, jnp.float32), size=1)
        value = terms.penalties(Criterion(folding=2.0), family, found, jnp.float32(1))
        np.testing.assert_allclose(value, 2 * expected, atol=1e-4)


@pytest.mark.parametrize("bound", ["elbo", "iwae"])
def test_the_loss_is_the_negative_bound_with_the_warm_up_s_weight(bound):
    """Three draws a training image; the weight of the KL terms at a quarter of the warm-up."""
    settings = {
        "data.shape": str(SHAPE),
        "model.features": "(8, 6)",
        "criterion.samples": "3",
        "criterion.bound": bound,
        "criterion.warm_up": "8",
        "criterion.beta": "2.0",
    }
    config = load_config("it_vae:cpu,data=glyphs", settings)
    system = build_system(config, INFO)
    image = jnp.asarray(RNG.uniform(size=(2, *SHAPE, 1)), jnp.float32)
    keys = jax.random.split(jax.random.key(3), 2)
    state = jax.jit(system.init)(jax.random.key(0), {"image": image})
    variables = evaluation_variables(state)[PLAYER]
    given = LossInputs({PLAYER: variables}, {}, {"image": image}, keys, keys[0], jnp.int32(2))
    (objective,) = system.objectives()
    value, _ = jax.jit(objective.loss)(given)

    @jax.jit
    def draw(number):
        own = jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
        noise = jax.vmap(lambda key: jax.random.normal(key, (system.latents,)))(own)
        return system.net.apply(variables, image, noise, train=True, mutable=["batch_stats"])[0]

    bounds = []
    for number in range(3):
        found = jax.tree.map(lambda x: np.asarray(x, np.float64), draw(number))
        p = np.clip(found.mean, 1e-5, 1 - 1e-5)
        x = np.asarray(image, np.float64)
        total = (x * np.log(p) + (1 - x) * np.log(1 - p)).sum((1, 2, 3))
        pairs = (found.z_perspective, found.perspective), (found.z_appearance, found.appearance)
        for z, q in pairs:
            spread = np.exp(0.5 * q.log_variance)
            if bound == "iwae":
                gap = (stats.norm.logpdf(z, q.mean, spread) - stats.norm.logpdf(z)).sum(1)
            else:
                gap = 0.5 * (spread**2 + q.mean**2 - 1 - q.log_variance).sum(1)
            total = total - 2.0 * (2 / 8) * gap
        bounds.append(total)
    expected = np.mean(bounds, 0)
    if bound == "iwae":
        expected = special.logsumexp(bounds, 0) - np.log(3)
    np.testing.assert_allclose(value, -expected.mean(), rtol=1e-4)


def test_bounds_pair_every_image_with_its_own_draws():
    """Images in another order with their keys have the same bounds, for any number of draws."""
    config = load_config(
        "it_vae:cpu,data=glyphs", {"data.shape": str(SHAPE), "model.features": "(8, 6)"}
    )
    system = build_system(config, INFO)
    image = jnp.asarray(RNG.uniform(size=(3, *SHAPE, 1)), jnp.float32)
    keys = jax.random.split(jax.random.key(3), 3)
    state = jax.jit(system.init)(jax.random.key(0), {"image": image})
    variables = evaluation_variables(state)
    bounds = jax.jit(lambda keys, image: system.bounds(variables, keys, image, 5))
    order = np.array([2, 0, 1])
    forward, turned = bounds(keys, image), bounds(keys[order], image[order])
    for a, b in zip(forward, turned):
        np.testing.assert_allclose(b, np.asarray(a)[order], rtol=1e-4)
        assert np.ptp(a) > 0.1
