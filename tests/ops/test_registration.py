import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.ops.field_measures import jacobian_determinant
from jaxmedgen.ops.fields import warp
from jaxmedgen.ops.registration import register
from jaxmedgen.ops.shooting import shoot
from jaxmedgen.ops.sobolev import SobolevMetric


def ellipse(shape, radii, centre):
    axes = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    r = sum(((x - c) / a) ** 2 for x, c, a in zip(axes, centre, radii))
    return jnp.asarray(1 / (1 + np.exp(6 * (np.sqrt(r) - 1))), jnp.float32)[None, ..., None]


SOURCE = ellipse((24, 24), (5, 7), (10.5, 12))
TARGET = ellipse((24, 24), (7, 5), (12.5, 11))


def check_success(found):
    before = float(jnp.sum((SOURCE - TARGET) ** 2))
    after = float(jnp.sum((warp(SOURCE, found.inverse) - TARGET) ** 2))
    assert after < 0.04 * before  # the norm of the residual falls by 80 %
    assert float(jacobian_determinant(found.inverse).min()) > 0


@pytest.mark.parametrize(
    "settings",
    [
        {"iterations": (15,), "band": 9},
        {"iterations": (40, 40), "band": 9, "optimizer": "adam", "learning_rate": 5.0},
    ],
    ids=["band", "adam"],
)
def test_registration_removes_the_difference_without_folding(settings):
    found = register(SOURCE, TARGET, steps=5, **settings)
    check_success(found)
    assert found.energy.shape == (sum(settings["iterations"]),)
    assert float(found.energy[-1]) < 0.3 * float(found.energy[0])


def test_dense_velocity_on_a_padded_grid_leads_to_the_displacement():
    found = register(SOURCE, TARGET, SobolevMetric(5.0), iterations=(20,), steps=5, padding=4)
    check_success(found)
    shot = shoot(found.velocity, SobolevMetric(5.0), steps=5)
    assert found.velocity.shape == (1, 32, 32, 2)
    np.testing.assert_allclose(shot.inverse[:, 4:-4, 4:-4], found.inverse, atol=2e-2)
    assert float(jnp.abs(found.inverse).max()) > 1


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"sigma": 0}, "sigma 0"),
        ({"metric": SobolevMetric(spacing=(1.0, 1.0))}, "spacing"),
        ({"iterations": ()}, "iterations"),
        ({"optimizer": "sgd"}, "'sgd'"),
        ({"band": 8}, "band 8"),
        ({"iterations": (1,) * 5}, "too small"),
    ],
)
def test_bad_input_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        register(SOURCE, TARGET, **settings)
    with pytest.raises((ValueError, TypeError), match="source"):
        jax.eval_shape(register, SOURCE, TARGET[:, :-1])
