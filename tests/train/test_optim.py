"""Learning rates against step; AMSGrad against its formulas."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmedgen.train.optim import SCHEDULES, optimizer, schedule


def test_half_of_the_steps_are_constant_before_the_rate_falls_to_zero():
    rates = [float(schedule("half_linear", 0.2, 100)(step)) for step in range(101)]
    np.testing.assert_allclose(rates[:51], 0.2)
    np.testing.assert_allclose(rates[50:], np.linspace(0.2, 0, 51), atol=1e-7)
    warm = schedule("half_linear", 0.2, 110, warmup=10)
    np.testing.assert_allclose([warm(0), warm(5), warm(10), warm(60)], [0, 0.1, 0.2, 0.2])
    np.testing.assert_allclose([warm(85), warm(110)], [0.1, 0], atol=1e-7)


@pytest.mark.parametrize("kind", SCHEDULES)
def test_schedules_start_at_their_peak(kind):
    assert float(schedule(kind, 0.1, 50)(0)) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="unknown schedule 'sudden'"):
        schedule("sudden", 0.1, 50)


def test_amsgrad_is_that_of_published_code():
    """By PyTorch's formulas in NumPy: the first gradient, a hundred times the others, is forgotten
    as far as its share in the running mean goes."""
    rate, b1, b2, decay = 1e-2, 0.5, 0.999, 1e-2
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(40, 3)) * np.array([100.0] + [1.0] * 39)[:, None]
    transform = optimizer("amsgrad", rate, weight_decay=decay, b1=b1, b2=b2)
    params = jnp.ones(3)
    state = transform.init(params)
    x, m, v, largest = np.ones(3), np.zeros(3), np.zeros(3), np.zeros(3)
    for t, gradient in enumerate(gradients, 1):
        updates, state = transform.update(jnp.asarray(gradient, jnp.float32), state, params)
        params = optax.apply_updates(params, updates)
        g = gradient + decay * x
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        largest = np.maximum(largest, v)
        x = x - rate / (1 - b1**t) * m / (np.sqrt(largest / (1 - b2**t)) + 1e-8)
        np.testing.assert_allclose(params, x, rtol=1e-4)
