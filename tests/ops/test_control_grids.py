import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from scipy.interpolate import BSpline

from jaxmedgen.ops.control_grids import bspline_field, control_shape, random_bspline_displacement
from jaxmedgen.ops.field_measures import jacobian_determinant

KEYS = jax.random.split(jax.random.key(0), 3)


def test_field_agrees_with_scipy_splines():
    rng = np.random.default_rng(0)
    control = rng.normal(size=(2, 6, 5, 2))
    out = bspline_field(jnp.asarray(control, jnp.float32), (13, 10))

    def axis(count, size):  # basis values [size, count]
        knots = np.arange(-3, count + 1)  # of cells 0 .. count - 3
        x = np.linspace(0, count - 3, size)
        return BSpline(knots, np.eye(count), 3)(x)

    expected = np.einsum("xi,yj,bijc->bxyc", axis(6, 13), axis(5, 10), control)
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_interpolating_coefficients_agree_with_zoom():
    values = np.random.default_rng(1).normal(size=(5, 4, 6))
    coefficients = ndimage.spline_filter(values, order=3, mode="mirror", output=np.float64)
    control = jnp.asarray(np.pad(coefficients, 1, mode="reflect"), jnp.float32)[None, ..., None]
    expected = ndimage.zoom(values, (3, 4, 2), order=3, mode="mirror")
    out = bspline_field(control, expected.shape)
    np.testing.assert_allclose(out[0, ..., 0], expected, atol=1e-5)


def test_locked_layers_hold_the_border():
    control = jnp.ones((1, 8, 7, 2))
    free = bspline_field(control, (20, 18))
    np.testing.assert_allclose(free, 1.0, atol=1e-6)
    locked = np.asarray(bspline_field(control, (20, 18), locked_layers=3))
    for face in (locked[:, 0], locked[:, -1], locked[:, :, 0], locked[:, :, -1]):
        assert np.abs(face).max() < 1e-7
    assert np.abs(locked).max() > 0.4
    two = np.asarray(bspline_field(control, (20, 18), locked_layers=2))
    assert two[0, 0].max() == pytest.approx(1 / 6, abs=1e-4)


def test_control_points_are_at_most_the_spacing_apart():
    assert control_shape((65, 64, 9), 8) == (11, 11, 4)
    assert control_shape((64, 128), (63.0, 10.0)) == (4, 16)
    with pytest.raises(ValueError, match="control_spacing 0"):
        control_shape((8, 8), 0)


def test_random_displacement_has_its_amplitude_in_mm_and_does_not_fold():
    shape, spacing = (40, 36, 20), (1.0, 1.0, 2.0)
    amplitude = jnp.asarray([0.0, 2.0, 3.5])  # below 0.4 of the control points' distance
    u = random_bspline_displacement(KEYS, shape, spacing, amplitude=amplitude)
    mm = np.abs(np.asarray(u) * np.asarray(spacing)).max((1, 2, 3, 4))
    assert mm[0] == 0 and 0.4 < mm[1] <= 2.0 and mm[1] < mm[2] <= 3.5
    assert float(jacobian_determinant(u).min()) > 0
    normal = random_bspline_displacement(
        KEYS[:1], shape, spacing, amplitude=1.0, controls=(9, 9, 6), distribution="normal"
    )
    assert 0.05 < float(jnp.std(normal)) < 1.0


def test_grids_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"control grid of shape \(3, 5\)"):
        bspline_field(jnp.zeros((1, 3, 5, 2)), (8, 8))
    with pytest.raises(ValueError, match="locked_layers -1"):
        bspline_field(jnp.zeros((1, 4, 5, 2)), (8, 8), locked_layers=-1)
