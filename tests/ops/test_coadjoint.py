import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.ops import epdiff
from jaxmedgen.ops.coadjoint import shoot_coadjoint, shoot_image
from jaxmedgen.ops.shooting import shoot
from jaxmedgen.ops.sobolev import SobolevMetric, flat, sharp

METRIC = SobolevMetric()


def smooth(shape, seed=0, times=2):
    noise = np.random.default_rng(seed).normal(size=(1, *shape, len(shape)))
    v = jnp.asarray(noise)
    for _ in range(times):
        v = sharp(v, METRIC)
    return v / jnp.sqrt((v**2).sum(-1)).max()


@pytest.mark.parametrize("shape, order", [((32, 32), 3), ((24, 24, 24), 1)])
def test_integrated_form_agrees_with_the_eulerian_form(shape, order):
    v = jnp.asarray(2 * smooth(shape), jnp.float32)
    maps = ("forward", "inverse")
    euler = jax.jit(functools.partial(shoot, metric=METRIC, maps=maps))(v)
    integrated = jax.jit(functools.partial(shoot_coadjoint, metric=METRIC, order=order))(
        flat(v, METRIC)
    )
    for name in ("velocity", *maps):
        a, b = getattr(integrated, name), getattr(euler, name)
        assert float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b)) < 0.01, name


def test_energy_alone_does_not_tell_a_missing_determinant(monkeypatch):
    """Why two forms are compared; the sheet has an error of 23 % for its field."""
    m = flat(jnp.asarray(2 * smooth((24, 24, 24)), jnp.float32), METRIC)

    def end():
        return jax.jit(functools.partial(shoot_coadjoint, metric=METRIC, steps=5, order=1))(m)

    right = end()
    monkeypatch.setattr(epdiff, "determinant", lambda jacobian: jnp.ones_like(jacobian[0][0]))
    wrong = end()
    start = float(jnp.vdot(m, sharp(m, METRIC)))
    drift = abs(float(jnp.vdot(wrong.momentum, wrong.velocity)) / start - 1)
    error = jnp.linalg.norm(wrong.velocity - right.velocity) / jnp.linalg.norm(right.velocity)
    assert drift < 0.02
    assert float(error) > 0.1


def test_scalar_form_is_the_vector_form_of_its_momentum():
    grid = np.stack(np.meshgrid(*(np.arange(32),) * 2, indexing="ij"), -1)
    radius = np.linalg.norm(grid - 15.5, axis=-1)
    image = jnp.asarray(1 / (1 + np.exp((radius - 8) / 2)), jnp.float32)[None]
    density = jnp.asarray(10 * np.cos(2 * np.pi * grid[..., 0] / 32), jnp.float32)[None]
    central = [(jnp.roll(image, -1, a + 1) - jnp.roll(image, 1, a + 1)) / 2 for a in (0, 1)]
    momentum = -density[..., None] * jnp.stack(central, -1)
    momentum, density = (
        x * 1.5 / jnp.abs(sharp(momentum, METRIC)).max() for x in (momentum, density)
    )
    a = jax.jit(functools.partial(shoot_image, metric=METRIC))(image, density)
    b = jax.jit(functools.partial(shoot, metric=METRIC, start_is="momentum", order=3))(momentum)
    assert float(jnp.abs(b.inverse).max()) > 1
    assert float(jnp.linalg.norm(a.inverse - b.inverse) / jnp.linalg.norm(b.inverse)) < 0.01
    with pytest.raises(ValueError, match="one shape"):
        shoot_image(image, density[:, :-1], METRIC)


def test_gradient_agrees_with_finite_differences():
    with jax.enable_x64(True):
        m, direction = (flat(smooth((12, 12), seed=s, times=3), METRIC) for s in (0, 1))

        @jax.jit
        def loss(m):
            return jnp.sum(jnp.sin(shoot_coadjoint(m, METRIC, steps=3, order=1).inverse))

        numeric = (loss(m + 1e-6 * direction) - loss(m - 1e-6 * direction)) / 2e-6
        slope = jnp.vdot(jax.grad(loss)(m), direction)
        assert slope == pytest.approx(float(numeric), rel=1e-5)
