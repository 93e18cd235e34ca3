"""Arrays without a gradient stay, state included; those with one move as without the others."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmedgen.train.idle import hold_idle
from jaxmedgen.train.optim import OPTIMIZERS, optimizer


def run(made, params, gradients):
    """Parameters after each step of gradients ``[steps, ...]``."""

    def step(carry, gradient):
        params, state = carry
        updates, state = made.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    return jax.lax.scan(step, (params, made.init(params)), gradients)[1]


def test_idle_arrays_stay_and_others_move():
    params = {"idle": jnp.ones(3), "busy": jnp.ones(3)}
    gradients = {"idle": jnp.zeros((2, 3)), "busy": jnp.array([[0.0, 1.0, -1.0]] * 2)}
    inner = optimizer("amsgrad", 1e-2, weight_decay=1e-4, b1=0.5)
    compiled = jax.jit(
        lambda held: run(hold_idle(inner) if held else inner, params, gradients), static_argnums=0
    )
    plain, held = compiled(False), compiled(True)
    assert plain["idle"][-1, 0] < 0.985  # the decay alone moves by a learning rate a step
    np.testing.assert_array_equal(held["idle"][-1], params["idle"])
    np.testing.assert_allclose(held["busy"], plain["busy"], rtol=1e-6)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_array_that_starts_late_moves_as_one_that_starts_now(kind):
    """2000 idle steps, three with a gradient, two idle ones, one more with a gradient."""
    rng, idle = np.random.default_rng(0), 2000
    when = np.r_[np.zeros(idle), 1, 1, 1, 0, 0, 1]
    late = when[:, None, None] * rng.normal(size=(len(when), 2, 3))
    busy = rng.normal(size=(len(when), 4))
    params = {"late": jnp.ones((2, 3)), "busy": jnp.ones(4)}
    inner = optimizer(kind, 1e-2, weight_decay=1e-4, b1=0.5)
    gradients = {"late": jnp.asarray(late, jnp.float32), "busy": jnp.asarray(busy, jnp.float32)}
    found = jax.jit(lambda g: run(hold_idle(inner), params, g))(gradients)

    def alone(name, steps):
        part = {name: gradients[name][steps]}
        return jax.jit(lambda g: run(inner, {name: params[name]}, g))(part)[name]

    expected = alone("late", when > 0)
    np.testing.assert_array_equal(found["late"][idle - 1], params["late"])
    np.testing.assert_allclose(found["late"][when > 0], expected, rtol=1e-5)
    np.testing.assert_array_equal(found["late"][-2], found["late"][-4])
    np.testing.assert_allclose(found["busy"], alone("busy", slice(None)), rtol=1e-4, atol=1e-5)
    if kind != "sgd":
        first = jnp.abs(found["late"][idle] - 1)
        np.testing.assert_allclose(first, 1e-2, rtol=0.02)  # a learning rate


def test_a_rate_behind_it_counts_all_steps():
    params, gradients = (
        {"late": jnp.ones(2)},
        {"late": jnp.array([[0.0, 0.0], [0.0, 0.0], [1.0, -1.0]])},
    )
    rates = optax.scale_by_schedule(lambda count: 0.1 / 2.0**count)
    made = optax.chain(hold_idle(optimizer("adam", 1.0)), rates)
    found = jax.jit(lambda g: run(made, params, g))(gradients)["late"]
    np.testing.assert_allclose(found[-1], [1 - 0.025, 1 + 0.025], rtol=1e-5)
