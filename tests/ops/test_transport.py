import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxmedgen.ops.sobolev import SobolevMetric, sample_velocity
from jaxmedgen.ops.transport import (
    forward_step,
    inverse_step,
    sample_periodic,
    undo_forward_step,
    undo_inverse_step,
)

KEYS = jax.random.split(jax.random.key(0), 1)


@pytest.mark.parametrize("order", [1, 3])
def test_periodic_sampling_agrees_with_scipy(order):
    rng = np.random.default_rng(0)
    field, u = rng.normal(size=(1, 7, 9, 2)), rng.normal(size=(1, 7, 9, 2)) * 6
    points = np.moveaxis(u[0] + np.stack(np.mgrid[:7, :9], -1), -1, 0)
    out = sample_periodic(jnp.asarray(field, jnp.float32), jnp.asarray(u, jnp.float32), order=order)
    for c in range(2):
        expected = ndimage.map_coordinates(field[0, ..., c], points, order=order, mode="grid-wrap")
        np.testing.assert_allclose(out[0, ..., c], expected, atol=2e-5)
    assert out.shape == u.shape


def test_steps_invert_each_other_and_can_be_taken_back():
    shape, dt = (32, 30), 0.1
    velocity = sample_velocity(KEYS, shape, SobolevMetric(alpha=12.0), rms=4.0)
    forward = inverse = jnp.zeros((1, *shape, 2))
    for _ in range(6):
        before = forward, inverse
        forward = forward_step(forward, velocity, dt)
        inverse = inverse_step(inverse, velocity, dt)
    assert float(jnp.abs(forward).max()) > 3
    # phi o psi = id.
    residual = inverse + sample_periodic(forward, inverse)
    assert float(jnp.sqrt(jnp.mean(residual**2))) < 0.04
    back = undo_forward_step(forward, velocity, dt)
    np.testing.assert_allclose(back, before[0], atol=1e-5)
    errors = [
        float(jnp.abs(undo_inverse_step(inverse, velocity, dt, corrections=c) - before[1]).max())
        for c in (0, 2)
    ]
    assert errors[1] < 0.25 * errors[0] and errors[1] < 0.03


def test_steady_rotation_is_of_second_order_in_time():
    # v = (sin y, 0) on a periodic box: particles keep y, so the map is known.
    n = 64
    angle = 2 * np.pi * np.arange(n) / n
    v = np.zeros((1, n, n, 2), np.float32)
    v[..., 0] = 3 * np.sin(angle)
    u = forward_step(jnp.zeros((1, n, n, 2)), jnp.asarray(v), 1.0)
    np.testing.assert_allclose(u, v, atol=1e-5)
    assert float(jnp.abs(inverse_step(jnp.zeros_like(u), jnp.asarray(v), 1.0) + v).max()) < 1e-5
