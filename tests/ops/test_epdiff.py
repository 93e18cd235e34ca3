"""Conservation laws of EPDiff, at the sheet's setting: 24^3, alpha 3, gamma 1, power 3."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.ops.epdiff import momentum_slope, velocity_slope
from jaxmedgen.ops.integrators import integrator_step
from jaxmedgen.ops.sobolev import SobolevMetric, filter_planes

METRIC = SobolevMetric()
STEPS = (5, 10, 20, 40)
# Relative drift of the energy over unit time for 5, 10, 20, 40 steps.
DRIFT = {
    "euler": (1.7e-1, 7.5e-2, 3.5e-2, 1.7e-2),
    "rk2": (4.5e-3, 6.4e-4, 1.0e-4, 1.8e-5),
    "rk4": (4.5e-5, 1.7e-6, 6.9e-8, 3.2e-9),
    "implicit_midpoint": (1e-8, 2e-12, 1e-15, 1e-15),
}


@functools.cache
def start():
    """Momentum of ``v_0 = K noise`` with max |v_0| = 3 voxels, float64, components first."""
    noise = jax.random.normal(jax.random.key(0), (1, 24, 24, 24, 3), jnp.float64)
    v = filter_planes(jnp.moveaxis(noise, -1, 1), METRIC, 1)
    return filter_planes(3 * v / jnp.sqrt((v**2).sum(1)).max(), METRIC, -1)


@functools.cache
def flow(name):
    """One compiled flow for any number of steps and either direction."""

    @jax.jit
    def run(m, steps, sign):
        slope = functools.partial(momentum_slope, metric=METRIC)

        def step(_, m):
            return integrator_step(name, slope, m, sign / steps)

        return jax.lax.fori_loop(0, steps, step, m)

    return run


def twice_energy(m):
    return float(jnp.vdot(m, filter_planes(m, METRIC, 1)))


@pytest.mark.parametrize("name", DRIFT)
def test_energy_drift_and_total_momentum(name):
    with jax.enable_x64(True):
        m0 = start()
        ends = [flow(name)(m0, steps, 1.0) for steps in STEPS]
        drift = np.abs([twice_energy(m) / twice_energy(m0) - 1 for m in ends])
        total = [float(jnp.abs((m - m0).sum((2, 3, 4))).max()) for m in ends]
    expected = np.asarray(DRIFT[name])
    assert (drift < np.maximum(2 * expected, 4e-15)).all(), drift
    assert (drift > 0.5 * expected)[expected > 1e-11].all(), drift
    assert max(total) < 1e-15 * float(jnp.abs(m0).sum())
    least = {"euler": 1.9, "rk2": 5.5, "rk4": 16, "implicit_midpoint": 0}[name]
    assert (drift[:-1] >= least * drift[1:]).all(), drift


@pytest.mark.parametrize("name, error", [("rk4", 4e-6), ("euler", 0.15)])
def test_time_reversal(name, error):
    with jax.enable_x64(True):
        m0 = start()
        back = flow(name)(-flow(name)(m0, 10, 1.0), 10, 1.0)
        v0, v = (filter_planes(m, METRIC, 1) for m in (m0, -back))
        off = float(jnp.linalg.norm(v - v0) / jnp.linalg.norm(v0))
    assert error / 10 < off < error


def test_the_expanded_form_loses_energy():
    """``(Dv)^T m + Dm v + m div v`` is no transpose of ad on the grid: the sheet has 15 % drift."""

    def slope(m):
        v = filter_planes(m, METRIC, 1)
        dv, dm = ([difference_all(x[:, i]) for i in range(3)] for x in (v, m))
        divergence = sum(dv[j][j] for j in range(3))
        rows = [
            sum(dv[j][i] * m[:, j] + dm[i][j] * v[:, j] for j in range(3)) + m[:, i] * divergence
            for i in range(3)
        ]
        return -jnp.stack(rows, 1)

    with jax.enable_x64(True):
        m0 = start()
        end = jax.jit(lambda m: jax.lax.fori_loop(
            0, 10, lambda _, m: integrator_step("rk4", slope, m, 0.1), m
        ))(m0)  # fmt: skip
        drift = abs(twice_energy(end) / twice_energy(m0) - 1)
    assert 0.05 < drift < 0.5


def difference_all(x):
    return [0.5 * (jnp.roll(x, -1, axis) - jnp.roll(x, 1, axis)) for axis in (1, 2, 3)]


def test_velocity_form_is_the_momentum_form():
    with jax.enable_x64(True):
        m = start()
        v = filter_planes(m, METRIC, 1)
        expected = filter_planes(momentum_slope(m, METRIC), METRIC, 1)
        np.testing.assert_allclose(velocity_slope(v, METRIC), expected, atol=1e-12)
        assert float(jnp.abs(expected).max()) > 0.1


def test_float32_drift_stays_near_rounding():
    with jax.enable_x64(True):
        m0 = start()
    m0 = jnp.asarray(np.asarray(m0), jnp.float32)
    m = flow("rk4")(m0, 10, 1.0)
    assert m.dtype == jnp.float32
    assert abs(twice_energy(m) / twice_energy(m0) - 1) < 1e-5
