"""Parameters without a gradient stay, those with one move as the inner optimiser moves them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxmedgen.train.idle import hold_idle
from jaxmedgen.train.optim import optimizer


def test_idle_arrays_stay_and_others_move():
    params = {"idle": jnp.ones(3), "busy": jnp.ones(3)}
    gradients = {"idle": jnp.zeros(3), "busy": jnp.array([0.0, 1.0, -1.0])}
    inner = optimizer("amsgrad", 1e-2, weight_decay=1e-4, b1=0.5)

    def two_steps(params, held):
        made = hold_idle(inner) if held else inner
        state = made.init(params)
        for _ in range(2):
            updates, state = made.update(gradients, state, params)
            params = optax.apply_updates(params, updates)
        return params

    two_steps = jax.jit(two_steps, static_argnums=1)
    plain, held = two_steps(params, False), two_steps(params, True)
    assert plain["idle"][0] < 0.985  # the decay alone moves by a learning rate a step
    np.testing.assert_array_equal(held["idle"], params["idle"])
    np.testing.assert_array_equal(held["busy"], plain["busy"])
