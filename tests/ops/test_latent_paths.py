"""Paths between slices, between subjects and along attributes."""

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from jaxmedgen.metrics.latents import active_units, roughness
from jaxmedgen.ops.latent_paths import (
    equalise_slices,
    interpolate_latents,
    latents_between,
    reach_attribute,
    regress_attribute,
)

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("slices", [1, 2, 3, 6, 14])
def test_stacks_of_any_number_of_slices_become_32(slices):
    latents = RNG.standard_normal((slices, 16))
    made = equalise_slices(latents)
    assert made.shape == (32, 16)
    np.testing.assert_allclose(made[[0, -1]], latents[[0, -1]], atol=1e-12)
    assert (made >= latents.min(0)).all() and (made <= latents.max(0)).all()


def test_splines_pass_through_the_slices_and_are_clipped():
    latents = np.asarray([0.0, 0.0, 1.0, 1.0, 0.9, 0.1])[:, None]
    places = np.linspace(0, 5, 51)
    free = CubicSpline(np.arange(6), latents)(places)
    assert free.max() > 1.02 and free.min() < -0.02  # overshoot
    made = latents_between(latents, places)
    np.testing.assert_allclose(made[::10], latents, atol=1e-12)
    np.testing.assert_allclose(made, np.clip(free, 0, 1))
    wide = latents_between(latents, places, low=np.asarray([-9.0]), high=np.asarray([9.0]))
    np.testing.assert_allclose(wide, free)


def test_arcs_keep_length_and_speed():
    a, b = np.asarray([[3.0, 0, 0]]), np.asarray([[0, 3.0, 0]])
    for t in (0.0, 0.25, 0.7, 1.0):
        made = interpolate_latents(a, b, t, "spherical")
        expected = 3 * np.asarray([[np.cos(t * np.pi / 2), np.sin(t * np.pi / 2), 0]])
        np.testing.assert_allclose(made, expected, atol=1e-12)
    np.testing.assert_allclose(interpolate_latents(a, 2 * a, 0.5, "spherical"), 1.5 * a)
    np.testing.assert_allclose(interpolate_latents(a, b, 1.5), -0.5 * a + 1.5 * b)
    with pytest.raises(ValueError, match="method 'cubic'"):
        interpolate_latents(a, b, 0.5, "cubic")
    with pytest.raises(ValueError, match="equalise both"):
        interpolate_latents(a, np.repeat(b, 2, 0), 0.5)


def test_attributes_are_reached_where_they_curve():
    """An attribute that is not linear in the latents is still hit, beyond all subjects."""
    truth = RNG.standard_normal((4, 3))

    def measure(z):
        linear = float((z * truth).sum())
        return 20 + linear + 0.02 * linear**2

    latents = RNG.standard_normal((80, 4, 3))
    values = np.asarray([measure(z) for z in latents])
    found = regress_attribute(latents, values, ridge=1e-3)
    assert found.explained > 0.9
    # A step of 1 along the direction raises the regressed attribute by 1.
    slope = measure(latents[0] + 0.01 * found.direction) - measure(latents[0])
    assert slope == pytest.approx(0.01, rel=0.3)
    target = values.max() + 2 * values.std()
    z, reached = reach_attribute(latents[0], found, target, measure)
    assert reached == measure(z) == pytest.approx(target, abs=0.02 * found.deviation)
    with pytest.raises(ValueError, match="must vary"):
        regress_attribute(latents, np.ones(80))


def test_roughness_and_units():
    line = np.linspace(0, 1, 9)[:, None] * RNG.standard_normal(4)
    assert roughness(line) == pytest.approx(0, abs=1e-20)
    assert roughness(np.asarray([[0.0], [1.0], [0.0]])) == 4
    means = RNG.standard_normal((100, 5)) * np.asarray([1, 1, 1, 0.01, 0])
    assert active_units(means) == 3
