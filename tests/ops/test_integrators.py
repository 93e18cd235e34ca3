import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.ops.integrators import integrator_step

ORDERS = {"euler": 1, "rk2": 2, "rk4": 4, "implicit_midpoint": 2}


def pendulum(name, steps):
    """Angle and speed of a pendulum at time 1, on a tree."""

    def slope(y):
        return {"q": y["p"], "p": -jnp.sin(y["q"])}

    start = {"q": jnp.asarray(1.0), "p": jnp.asarray(0.5)}

    def step(y, _):
        return integrator_step(name, slope, y, 1.0 / steps), None

    end, _ = jax.lax.scan(step, start, None, length=steps)
    return np.asarray([end["q"], end["p"]])


@pytest.mark.parametrize("name", ORDERS)
def test_order(name):
    from scipy.integrate import solve_ivp

    exact = solve_ivp(
        lambda t, y: [y[1], -np.sin(y[0])], (0, 1), [1.0, 0.5], rtol=1e-12, atol=1e-14
    ).y[:, -1]
    with jax.enable_x64(True):
        errors = [np.abs(pendulum(name, steps) - exact).max() for steps in (10, 20)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(ORDERS[name], abs=0.25)


def test_implicit_midpoint_keeps_a_quadratic_invariant():
    with jax.enable_x64(True):
        spin = jnp.asarray([[0.0, 2.0], [-2.0, 0.0]])
        y = jnp.asarray([1.0, 0.3])
        out = integrator_step("implicit_midpoint", lambda y: spin @ y, y, 0.1)
        assert abs(float(out @ out - y @ y)) < 1e-10


def test_unknown_name():
    with pytest.raises(ValueError, match="choose from euler"):
        integrator_step("heun", lambda y: y, jnp.ones(2), 0.1)
