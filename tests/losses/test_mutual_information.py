"""The bound at its optimum, where it is the mutual information, and its corrected gradient."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.losses.mutual_information import critic_objective, mutual_information_bound
from jaxmedgen.ops.gradient_reversal import gradient_reversal

RHO = 0.5


def density_ratio(x, y):
    """log p(x, y) / p(x) p(y) of standard Gaussians with correlation RHO."""
    square = (RHO**2 * (x**2 + y**2) - 2 * RHO * x * y) / (2 * (1 - RHO**2))
    return -0.5 * jnp.log(1 - RHO**2) - square


def samples(count):
    rng = np.random.default_rng(0)
    x, noise, other = rng.normal(size=(3, count))
    y = RHO * x + np.sqrt(1 - RHO**2) * noise
    return density_ratio(x, y), density_ratio(x, RHO * other + np.sqrt(1 - RHO**2) * noise[::-1])


def test_the_best_critic_shows_the_information_of_correlated_gaussians():
    bound = mutual_information_bound(*(jnp.asarray(t) for t in samples(200_000)))
    np.testing.assert_allclose(bound, -0.5 * np.log(1 - RHO**2), atol=0.01)


def test_the_critic_s_gradient_is_the_bound_s_where_the_average_is_the_batch_s_own():
    joint, marginal = (jnp.asarray(t, jnp.float32) for t in samples(64))
    _, average = critic_objective(joint, marginal, jnp.zeros(()), rate=1 - 1e-7)
    exact = jax.grad(lambda m: -mutual_information_bound(joint, m))(marginal)
    found = jax.grad(lambda m: critic_objective(joint, m, average, rate=1e-7)[0])(marginal)
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-7)
    # Huge values of the critic must not overflow.
    assert np.isfinite(mutual_information_bound(joint, marginal + 500))


def test_reversal_is_the_identity_with_a_negative_gradient():
    x = jnp.arange(4.0)
    value, gradient = jax.value_and_grad(lambda x: jnp.sum(gradient_reversal(x, 0.3) ** 2))(x)
    assert float(value) == 14
    np.testing.assert_allclose(gradient, -0.3 * 2 * x, rtol=1e-6)
