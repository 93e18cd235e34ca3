"""Geodesics: constant energy, the way back, scipy's solution of the second-order form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from jaxmedgen.ops import riemannian_metric as rm
from jaxmedgen.ops.metric_shooting import (
    geodesic_between,
    log_map,
    path_energy,
    shoot_metric,
)
from tests.ops.test_riemannian_metric import LAMBDA, T, draw, inverse


def plane():
    """30 centroids in a plane, the setting of the sheet of errors, and 8 shots of length 1."""
    centroids, factors, z = draw(n=30, d=2, b=8, seed=3)
    v = np.random.default_rng(4).standard_normal(z.shape)
    return centroids, factors, z, v / np.linalg.norm(v, axis=-1, keepdims=True)


def test_energy_is_constant_and_the_way_back_leads_home():
    centroids, factors, z, v = plane()
    settings = [("rk2", 10), ("rk2", 50), ("rk4", 10), ("rk4", 20), ("rk4", 50), ("leapfrog", 50)]

    with jax.enable_x64(True):

        @jax.jit
        def drifts(centroids, factors, z, v):
            metric = rm.metric_of_factors(centroids, factors, T, LAMBDA)
            first = rm.kinetic_energy(metric, z, rm.momentum_of(metric, z, v))
            found = []
            for integrator, steps in settings:
                shot = shoot_metric(metric, z, v, steps=steps, integrator=integrator)
                last = rm.kinetic_energy(metric, shot.position, shot.momentum)
                back = shoot_metric(
                    metric, shot.position, -shot.velocity, steps=steps, integrator=integrator
                )
                found.append((jnp.abs(last / first - 1), jnp.abs(back.position - z).max()))
            still = shoot_metric(metric, z, 0 * v).position
            flat = shoot_metric(rm.metric_of_factors(centroids, 0 * factors, T, LAMBDA), z, v)
            return found, still, flat.position

        found, still, flat = jax.tree.map(np.asarray, drifts(centroids, factors, z, v))
    error = {setting: drift.max() for setting, (drift, _) in zip(settings, found)}
    # The published-size errors (1.4e-2, 5e-4, 2e-3, 8e-5, 1e-6) are of other centroids.
    assert error["rk2", 10] < 0.1 and error["rk2", 50] < 4e-3
    assert error["rk4", 20] < 1e-3 and error["rk4", 50] < 2e-5
    assert error["rk2", 10] / error["rk2", 50] > 12  # order 2: 25
    assert error["rk4", 10] / error["rk4", 50] > 150  # order 4: 625
    assert found[4][1] < 1e-4  # RK4, 50 steps
    # Not better reversible than its implicit equations are solved.
    assert found[5][1] < 1e-3 and error["leapfrog", 50] < 1e-2
    np.testing.assert_array_equal(still, z)
    np.testing.assert_allclose(flat, z + v, atol=1e-12)


def test_shots_solve_the_second_order_equation():
    """``x'' + Gamma(x', x') = 0`` with derivatives of G by differences, solved by scipy."""
    centroids, factors, z, v = plane()

    def christoffel_force(x, u, h=1e-5):
        steps = (*h * np.eye(2), *-h * np.eye(2))
        g = [np.linalg.inv(inverse(x + step, centroids, factors)) for step in steps]
        dg = np.stack([(a - b) / (2 * h) for a, b in zip(g[:2], g[2:])])  # [k, i, j] = d_k g_ij
        lower = np.einsum("kij,k,j->i", dg, u, u) - 0.5 * np.einsum("ikj,k,j->i", dg, u, u)
        return -inverse(x, centroids, factors) @ lower

    with jax.enable_x64(True):
        metric = rm.metric_of_factors(jnp.asarray(centroids), jnp.asarray(factors), T, LAMBDA)
        shot = jax.jit(lambda z, v: shoot_metric(metric, z, v, steps=100))(z[:2], v[:2])
    for k in range(2):
        solved = solve_ivp(
            lambda _, y: np.concatenate([y[2:], christoffel_force(y[:2], y[2:])]),
            (0, 1), np.concatenate([z[k], v[k]]), rtol=1e-9, atol=1e-9,
        )  # fmt: skip
        np.testing.assert_allclose(shot.position[k], solved.y[:2, -1], atol=2e-5)
        np.testing.assert_allclose(shot.velocity[k], solved.y[2:, -1], atol=2e-4)


def test_the_way_between_two_points_follows_the_data():
    """Data on a ring: the straight line crosses the hole, the geodesic goes round it."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = 1.5 * np.stack([np.cos(angle), np.sin(angle)], -1)
    a, b = ring[[0, 0, 3]], ring[[6, 4, 9]]
    with jax.enable_x64(True):
        factors = jnp.broadcast_to(jnp.eye(2), (24, 2, 2))
        metric = rm.metric_of_factors(jnp.asarray(ring), factors, 0.6, 1e-2)

        @jax.jit
        def between(a, b):
            t = jnp.linspace(0, 1, 13)[:, None, None]
            found = geodesic_between(metric, a, b, pieces=12, iterations=30)
            log = log_map(metric, a, b, first=12 * (found[1] - found[0]), iterations=5)
            arrived = shoot_metric(metric, a, log).position
            energy = rm.kinetic_energy(metric, a, rm.momentum_of(metric, a, log))
            lines = path_energy(metric, (1 - t) * a + t * b)[1], path_energy(metric, found)[1]
            return found, arrived, jnp.sqrt(2 * energy), *lines

        path, arrived, length, straight, bent = map(np.asarray, between(a, b))
    np.testing.assert_array_equal(path[[0, -1]], np.stack([a, b]))
    np.testing.assert_allclose(arrived, b, atol=1e-6)
    assert (bent < straight).all() and bent[0] < 0.96 * straight[0]
    assert np.linalg.norm(path, axis=-1).min() > 1.2  # half way, the straight line is at 1.06
    np.testing.assert_allclose(bent, length, rtol=0.02)
    np.testing.assert_allclose(bent[0], bent[2], rtol=1e-4)  # the ring looks alike everywhere


def test_settings_that_do_not_fit_are_refused():
    metric = rm.metric_of_factors(jnp.zeros((1, 2)), jnp.zeros((1, 2, 2)), 1.0, 1.0)
    z = jnp.zeros((1, 2))
    with pytest.raises(ValueError, match="integrator='euler'"):
        shoot_metric(metric, z, z, integrator="euler")
    with pytest.raises(ValueError, match="steps=0"):
        shoot_metric(metric, z, z, steps=0)
    with pytest.raises(ValueError, match="pieces=1"):
        geodesic_between(metric, z, z, pieces=1)
