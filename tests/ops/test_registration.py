import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.ops.field_measures import jacobian_determinant
from jaxmedgen.ops.fields import warp
from jaxmedgen.ops.registration import register
from jaxmedgen.ops.shooting import shoot
from jaxmedgen.ops.sobolev import SobolevMetric, energy, sharp


def ellipse(shape, radii, centre):
    axes = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    r = sum(((x - c) / a) ** 2 for x, c, a in zip(axes, centre, radii))
    return jnp.asarray(1 / (1 + np.exp(6 * (np.sqrt(r) - 1))), jnp.float32)[None, ..., None]


SOURCE = ellipse((24, 24), (5, 7), (10.5, 12))
TARGET = ellipse((24, 24), (7, 5), (12.5, 11))
METRIC = SobolevMetric(5.0)


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
    found = register(SOURCE, TARGET, METRIC, iterations=(20,), steps=5, padding=4)
    check_success(found)
    shot = shoot(found.velocity, METRIC, steps=5)
    assert found.velocity.shape == (1, 32, 32, 2)
    np.testing.assert_allclose(shot.inverse[:, 4:-4, 4:-4], found.inverse, atol=2e-2)
    assert float(jnp.abs(found.inverse).max()) > 1


def test_sobolev_steps_follow_the_gradient_in_the_metric():
    """``v <- v - e (v + K grad)``: the first by hand, the second by the gradient in v; the end."""
    rate, sigma = 0.3, 0.1
    options = {"sigma": sigma, "iterations": (30,), "steps": 5}
    found = register(SOURCE, TARGET, METRIC, optimizer="sobolev", learning_rate=rate, **options)

    @jax.jit
    @jax.value_and_grad
    def total(v):
        moved = warp(SOURCE, shoot(v, METRIC, steps=5, gradient="stored").inverse)
        return energy(v, METRIC)[0] + jnp.sum((moved - TARGET) ** 2) / (2 * sigma**2)

    # At rest psi = id - v, and the slope of the linear interpolant is that of the cell above.
    image = SOURCE[..., 0]
    slope = jnp.stack([jnp.roll(image, -1, axis) - image for axis in (1, 2)], -1)
    first = rate / sigma**2 * sharp((image - TARGET[..., 0])[..., None] * slope, METRIC)
    value, gradient = total(first)
    second, _ = total(first - rate * sharp(gradient, METRIC))
    np.testing.assert_allclose(found.energy[1:3], [value, second], rtol=1e-4)
    assert float(value) < 0.9 * float(found.energy[0])
    left = sharp(total(found.velocity)[1], METRIC)
    assert float(jnp.linalg.norm(left)) < 0.03 * float(jnp.linalg.norm(first / rate))


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
