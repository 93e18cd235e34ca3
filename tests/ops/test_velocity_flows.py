"""Priors of velocities in whitened coordinates, and the flows that start from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.ops.fields import compose, exp_velocity
from jaxmedgen.ops.invariant_metrics import SobolevMetric
from jaxmedgen.ops.sobolev import energy
from jaxmedgen.ops.velocity_flows import velocity_flow
from jaxmedgen.ops.velocity_priors import ControlPrior, FourierPrior
from jaxmedgen.ops.wendland import wendland_energy


def draws(prior, count, seed=0):
    return jax.random.normal(jax.random.key(seed), (count, *prior.coordinates))


@pytest.mark.parametrize("band", [5, None])
def test_fourier_energy_is_that_of_the_metric(band):
    """``<L v, v> = scale^2 |xi|^2``, and the deviation is what was asked for."""
    prior = FourierPrior((12, 10), band, alpha=2.0, gamma=0.7, power=2)
    hyper, xi = jax.jit(lambda: prior.start(1.7))(), draws(prior, 400)  # as in `init`
    v = jax.jit(lambda xi: prior.velocity(xi, hyper))(xi)
    # `energy` is half the squared norm.
    norm = jax.jit(lambda v: 2 * energy(v, SobolevMetric(2.0, 0.7, 2)))
    found = norm(v) / jnp.exp(2 * hyper["log_scale"])
    np.testing.assert_allclose(found, jnp.sum(xi**2, (1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(jnp.std(v), 1.7, rtol=0.03)


def test_control_energy_is_wendlands():
    """``p^T K_w p = scale^2 |xi|^2`` , and the field at a point has that scale."""
    prior = ControlPrior((17, 17), control_spacing=8)
    hyper, xi = prior.start(1.3), draws(prior, 2000)
    p = prior.points(xi, hyper)
    np.testing.assert_allclose(wendland_energy(p), 1.69 * jnp.sum(xi**2, (1, 2, 3)), rtol=2e-3)
    v = jax.jit(lambda xi: prior.velocity(xi, hyper))(xi)
    np.testing.assert_allclose(jnp.std(v[:, 8, 8]), 1.3, rtol=0.05)


def test_scale_and_alpha_are_estimated():
    """From draws of one prior, starting at another; the velocities stay the same."""
    true = FourierPrior((16, 16), 9, alpha=6.0)
    hyper = true.start(2.0)
    start = true.start(1.0) | {"log_alpha": jnp.log(2.0)}
    xi = true.rewhiten(draws(true, 200), hyper, start)
    np.testing.assert_allclose(
        true.velocity(xi[:2], start), true.velocity(draws(true, 200)[:2], hyper), atol=1e-4
    )

    @jax.jit
    def improve(xi, old):
        new = true.fit(jnp.mean(xi**2, 0), old, 1.0)
        return true.rewhiten(xi, old, new), new

    for _ in range(15):
        xi, start = improve(xi, start)
    np.testing.assert_allclose(jnp.exp(start["log_alpha"]), 6.0, rtol=0.1)
    np.testing.assert_allclose(start["log_scale"], hyper["log_scale"], atol=0.1)


@pytest.mark.parametrize(
    ("flow", "field"),
    [
        ("stationary", "wendland"),
        ("stationary", "bspline"),
        ("stationary", "band"),
        ("geodesic", "band"),
        ("geodesic", "dense"),
    ],
)
def test_flows_are_diffeomorphisms_near_the_identity(flow, field):
    """``u = v + O(v^2)`` and ``phi o phi^-1 = id``, inside of the border that flows enter by."""
    settings = {"alpha": 20.0, "padding": 4, "band": 9, "shooting_steps": 5, "squarings": 6}
    made = velocity_flow((24, 24), flow=flow, parametrisation=field, **settings)
    hyper = made.prior.start(1.0)
    xi = draws(made.prior, 3)

    @jax.jit
    def both(size):
        v = made.prior.velocity(size * xi, hyper)
        return v, made.displacement(size * xi, hyper), made.inverse(size * xi, hyper)

    v, u, back = both(1.0)
    error = jnp.abs(compose(u, back))[:, 5:-5, 5:-5]
    assert float(error.mean()) < 0.05
    small_v, small_u, _ = both(0.1)
    inner = (slice(None), slice(5, -5), slice(5, -5))
    near = jnp.linalg.norm((small_u - small_v)[inner]) / jnp.linalg.norm(small_v[inner])
    far = jnp.linalg.norm((u - v)[inner]) / jnp.linalg.norm(v[inner])
    assert float(near) < 0.12
    assert float(near) < 0.3 * float(far)


def test_a_stationary_flow_is_not_a_geodesic():
    made = [
        velocity_flow((24, 24), flow=f, parametrisation="band", band=9, alpha=20.0)
        for f in ("stationary", "geodesic")
    ]
    hyper, xi = made[0].prior.start(1.5), draws(made[0].prior, 2)
    one, other = jax.jit(lambda xi: [f.displacement(xi, hyper) for f in made])(xi)
    assert float(jnp.abs(one - other).max()) > 0.3


def test_squarings_adapt_to_the_velocity():
    """Zero takes what each sample needs; energies can still be differentiated."""
    made, fine = (velocity_flow((24, 24), parametrisation="bspline", squarings=n) for n in (0, 10))
    hyper, xi = made.prior.start(1.5), draws(made.prior, 2) * jnp.asarray([[[[0.1]]], [[[1.0]]]])
    v = made.prior.velocity(xi, hyper)
    np.testing.assert_array_equal(made.displacement(xi, hyper), exp_velocity(v, steps=None))
    error = jnp.abs(made.displacement(xi, hyper) - fine.displacement(xi, hyper))
    assert float(error.max()) < 0.1
    slope = jax.grad(lambda xi: jnp.sum(made.displacement(xi, hyper) ** 2))(xi)
    assert bool(jnp.isfinite(slope).all()) and float(jnp.abs(slope[1]).max()) > 0


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match="parametrisation 'sine' is unknown"):
        velocity_flow((8, 8), parametrisation="sine")
    with pytest.raises(ValueError, match="flow 'straight' is unknown"):
        velocity_flow((8, 8), flow="straight")
    with pytest.raises(ValueError, match="the momentum L v is unbounded"):
        velocity_flow((8, 8), flow="geodesic")
    with pytest.raises(ValueError, match="deviation 0 of the prior"):
        ControlPrior((8, 8)).start(0)
