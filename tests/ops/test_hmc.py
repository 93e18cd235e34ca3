"""HMC in whitened coordinates: a Gaussian posterior, mass L, order of the energy error, tuning."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.metrics.chains import effective_sample_size, split_rhat
from jaxmedgen.ops.hmc import (
    hmc_start,
    hmc_transition,
    leapfrog,
    sample_chains,
    tune,
    tune_start,
)
from jaxmedgen.ops.velocity_priors import FourierPrior

SHAPE, SLOPE, SIGMA = (8, 8), 1.5, 6.0
PRIOR = FourierPrior(SHAPE, band=3, alpha=2.0)
HYPER = PRIOR.start(1.0)


def problem():
    """``I o (id + v) = I + SLOPE v_0``: Exp is the identity plus v, the image a ramp.

    Returns the data less I, the energy, and mean and covariance of the posterior.
    """
    size = int(np.prod(PRIOR.coordinates))
    basis = jnp.eye(size).reshape(size, *PRIOR.coordinates)
    fields = np.asarray(jax.jit(lambda x: PRIOR.velocity(x, HYPER))(basis), np.float64)
    design = SLOPE * fields[..., 0].reshape(size, -1).T / SIGMA
    data = np.random.default_rng(0).normal(0, 6.0, design.shape[0])
    covariance = np.linalg.inv(np.eye(size) + design.T @ design)
    mean = covariance @ design.T @ data / SIGMA
    target = jnp.asarray(data.reshape(SHAPE), jnp.float32)

    def energy(xi):
        residual = target - SLOPE * PRIOR.velocity(xi, HYPER)[..., 0]
        planes = jnp.sum(residual**2, -1) / (2 * SIGMA**2)
        prior = 0.5 * jnp.sum(xi**2, tuple(range(1, xi.ndim)))
        return jnp.concatenate([planes, prior[:, None]], -1)

    return energy, mean, covariance


def test_linear_gaussian_posterior_is_recovered():
    """Mean and covariance within Monte-Carlo error, at the acceptance that was asked for."""
    energy, mean, covariance = problem()
    chains, draws = 64, 60

    @jax.jit
    def run(key):
        keys = jax.random.split(key, chains)
        position, tuning = jnp.zeros((chains, *PRIOR.coordinates)), tune_start(0.1, (chains,))
        for adapt in (True, False):
            keys = jax.vmap(lambda k: jax.random.fold_in(k, 1))(keys)
            tuning, kept, course = sample_chains(
                keys,
                position,
                tuning,
                energy,
                draws=draws,
                thinning=3,
                steps=5,
                target=0.8,
                adapt=jnp.array(adapt),
            )
            position = kept[-1]
        return kept, course

    kept, course = run(jax.random.key(0))
    samples = np.asarray(kept, np.float64).reshape(draws, chains, -1)
    # Averaged step sizes end a little below what was asked for.
    assert 0.75 < float(course["acceptance"].mean()) < 0.95
    traces = jnp.moveaxis(jnp.asarray(samples, jnp.float32), 2, 0).swapaxes(1, 2)
    checks = jax.jit(lambda x: (split_rhat(x), effective_sample_size(x)))(traces)
    assert float(checks[0].max()) < 1.1
    independent = float(checks[1].min())
    assert independent > 1000
    flat = samples.reshape(-1, samples.shape[-1])
    deviation = np.sqrt(np.diag(covariance))
    z = (flat.mean(0) - mean) / (deviation / np.sqrt(independent))
    assert np.abs(z).max() < 4
    found = np.cov(flat.T)
    scale = np.outer(deviation, deviation)
    # Standard error of a covariance of unit variables is at most sqrt(2 / n).
    assert np.abs((found - covariance) / scale).max() < 5 * np.sqrt(2 / independent)


def test_whitened_steps_are_steps_with_mass_l():
    """The same trajectory in v with momentum ``r = L^(1/2) eta``, in float64 with numpy."""
    energy, _, _ = problem()
    rng = np.random.default_rng(1)
    xi, eta = rng.normal(size=(2, 1, *PRIOR.coordinates))
    state = hmc_start(energy, jnp.asarray(xi, jnp.float32))
    end, momentum = leapfrog(energy, state, jnp.asarray(eta, jnp.float32), jnp.array([0.1]), 7)
    root = np.exp(float(HYPER["log_scale"])) / np.sqrt(
        np.asarray(PRIOR.symbol(PRIOR.alpha), np.float64)
    )  # K^(1/2) of the coefficients of v
    gradient = jax.jit(jax.grad(lambda x: energy(x).sum()))

    def force(v):
        return -np.asarray(gradient(jnp.asarray(v / root, jnp.float32)), np.float64) / root

    v, r = root * xi, eta / root
    r = r + 0.05 * force(v)
    for step in range(7):
        v = v + 0.1 * root**2 * r
        r = r + (0.1 if step < 6 else 0.05) * force(v)
    np.testing.assert_allclose(end.position, v / root, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(momentum, root * r, rtol=2e-4, atol=2e-4)


def test_energy_error_is_of_second_order_and_steps_reverse():
    energy, _, _ = problem()
    keys = jax.random.split(jax.random.key(3), 32)
    start = jax.vmap(lambda k: jax.random.normal(k, PRIOR.coordinates))(keys)

    momentum = start[::-1]

    @jax.jit
    def follow():
        """Energy errors after one length of time, and the positions after as much backwards."""
        state = hmc_start(energy, start)

        def total(state, momentum):
            return state.energy.sum(-1) + 0.5 * jnp.sum(momentum**2, (1, 2, 3))

        errors, backs = [], []
        for count in (8, 16):
            size = jnp.full(32, 1.2 / count)
            end, last = leapfrog(energy, state, momentum, size, count)
            back, _ = leapfrog(energy, end, -last, size, count)
            errors.append(total(end, last) - total(state, momentum))
            backs.append(back.position)
        return errors, backs

    (coarse, fine), backs = follow()
    for back in backs:
        np.testing.assert_allclose(back, start, atol=2e-4)
    ratio = jnp.sqrt(jnp.mean(coarse**2) / jnp.mean(fine**2))
    assert 3.3 < float(ratio) < 4.8


def test_bad_trajectories_are_rejected():
    def energy(x):
        return jnp.where(jnp.abs(x) > 1, jnp.nan, 0.5 * x**2)

    keys = jax.random.split(jax.random.key(0), 8)
    state = hmc_start(energy, jnp.zeros((8, 1)))
    new, info = hmc_transition(keys, state, energy, jnp.full(8, 50.0), 3)
    np.testing.assert_array_equal(new.position, 0.0)
    np.testing.assert_array_equal(info.acceptance, 0.0)


def test_effective_sample_size_of_an_autoregressive_chain():
    """N (1 - rho) / (1 + rho), and R-hat tells chains of other means apart."""
    rng = np.random.default_rng(0)
    rho = np.array([0.0, 0.6])[:, None]
    x = np.zeros((2, 4, 4000))
    for t in range(1, 4000):
        x[..., t] = rho * x[..., t - 1] + rng.normal(size=(2, 4))
    trace = jnp.asarray(np.concatenate([x, x + 2 * np.arange(4)[:, None]]), jnp.float32)
    ess, rhat = jax.jit(lambda x: (effective_sample_size(x), split_rhat(x)))(trace)
    np.testing.assert_allclose(ess[:2], 16000 * (1 - rho[:, 0]) / (1 + rho[:, 0]), rtol=0.1)
    assert float(rhat[:2].max()) < 1.01
    assert float(rhat[2:].min()) > 1.5


def test_an_untuned_chain_keeps_the_step_size_it_was_given():
    """And where the average starts makes no difference to a tuned one, to the bit."""
    tuning = tune_start(0.01, (3,))
    np.testing.assert_allclose(jnp.exp(tuning["log_x_avg"]), 0.01, rtol=1e-5)
    other = tuning | {"log_x_avg": jnp.zeros(3)}
    acceptance = jnp.array([0.1, 0.5, 0.9])
    for name, value in tune(tuning, acceptance, 0.8).items():
        np.testing.assert_array_equal(value, tune(other, acceptance, 0.8)[name])
