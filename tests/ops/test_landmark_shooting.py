import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from jaxmedgen.ops.landmark_shooting import landmark_hamiltonian, shoot_landmarks

SIGMA = 0.7


def start(dimensions):
    rng = np.random.default_rng(0)
    return rng.normal(size=(5, dimensions)), 0.5 * rng.normal(size=(5, dimensions))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_path_agrees_with_hamiltons_equations_and_keeps_h(dimensions):
    q, p = start(dimensions)

    def hamiltonian(q, p):
        k = jnp.exp(-jnp.sum((q[:, None] - q) ** 2, -1) / (2 * SIGMA**2))
        return 0.5 * jnp.sum((p @ p.T) * k)

    with jax.enable_x64(True):
        slopes = jax.jit(jax.grad(hamiltonian, (0, 1)))

        def equations(_, y):
            along_q, along_p = slopes(*y.reshape(2, 5, dimensions))
            return np.concatenate([np.ravel(along_p), -np.ravel(along_q)])

        exact = solve_ivp(equations, (0, 1), np.ravel([q, p]), rtol=1e-10, atol=1e-12).y[:, -1]
        run = jax.jit(functools.partial(shoot_landmarks, sigma=SIGMA, steps=40))
        points, momenta, passengers = run(jnp.asarray(q)[None], jnp.asarray(p)[None])
        np.testing.assert_allclose(np.ravel([points[0], momenta[0]]), exact, atol=1e-6)
        before = landmark_hamiltonian(jnp.asarray(q)[None], jnp.asarray(p)[None], SIGMA)
        after = landmark_hamiltonian(points, momenta, SIGMA)
        assert abs(float(before[0]) - hamiltonian(q, p)) < 1e-12 and passengers is None
        np.testing.assert_allclose(after, before, rtol=1e-7)
        np.testing.assert_allclose(momenta.sum(1)[0], p.sum(0), atol=1e-12)


def test_passengers_move_with_the_flow():
    q, p = (jnp.asarray(x, jnp.float32)[None] for x in start(2))
    # A passenger at a landmark stays with it, one far away stays where it is.
    far = jnp.full((1, 1, 2), 50.0)
    points, _, riders = shoot_landmarks(q, p, sigma=SIGMA, passengers=jnp.concatenate([q, far], 1))
    np.testing.assert_allclose(riders[:, :-1], points, atol=1e-6)
    np.testing.assert_allclose(riders[:, -1:], far, atol=1e-6)
    assert float(jnp.abs(points - q).max()) > 0.1


@pytest.mark.parametrize("settings", [{"sigma": 0}, {"sigma": 1.0, "steps": 0}])
def test_bad_input_is_named(settings):
    with pytest.raises(ValueError, match="must be"):
        shoot_landmarks(jnp.zeros((1, 2, 2)), jnp.zeros((1, 2, 2)), **settings)
