import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.augment.bias import bias_field, bias_terms, log_bias
from jaxmedgen.augment.draws import Draw
from jaxmedgen.augment.intensity import Intensity, apply_intensity, sample_intensity


@pytest.mark.parametrize("shape,terms", [((6, 5), 10), ((6, 5, 4), 20)])
def test_bias_field_is_the_polynomial_and_its_fit_recovers_the_coefficients(shape, terms):
    rng = np.random.default_rng(0)
    c = rng.uniform(-0.5, 0.5, size=(2, terms)).astype(np.float32)
    field = np.asarray(log_bias(jnp.asarray(c), shape), np.float64)[..., 0]
    centres = [(2 * np.arange(n) + 1) / n - 1 for n in shape]
    grid = np.meshgrid(*centres, indexing="ij")
    powers = [p for p in np.ndindex(*(4,) * len(shape)) if sum(p) <= 3]
    design = np.stack([np.prod([g**e for g, e in zip(grid, p)], 0).ravel() for p in powers], -1)
    for b in range(2):
        fit = np.linalg.lstsq(design, field[b].ravel(), rcond=None)[0]
        np.testing.assert_allclose(fit, c[b], atol=1e-4)
    image = jnp.asarray(rng.uniform(size=(2, *shape, 2)), jnp.float32)
    image = image.at[:, 0].set(0.0)  # the minimum, which the field leaves alone
    out = bias_field(image, jnp.asarray(c), retain_stats=False)
    np.testing.assert_allclose(out[..., 1], image[..., 1] * np.exp(field), rtol=1e-4)
    kept = bias_field(image, jnp.asarray(c))
    space = tuple(range(1, 1 + len(shape)))
    np.testing.assert_allclose(kept.std(space), image.std(space), atol=1e-5)


def test_the_legendre_field_is_numpys():
    shape, rng = (7, 6, 5), np.random.default_rng(0)
    powers = [p for p in np.ndindex(4, 4, 4) if sum(p) <= 3]
    c = rng.uniform(0, 0.1, size=(1, len(powers), 2)).astype(np.float32)
    cube = np.zeros((4, 4, 4, 2))
    for power, value in zip(powers, c[0]):
        cube[power] = value
    centres = [(2 * np.arange(n) + 1) / n - 1 for n in shape]
    expected = np.polynomial.legendre.leggrid3d(*centres, cube)
    found = log_bias(jnp.asarray(c), shape, basis="legendre")
    np.testing.assert_allclose(found[0], np.moveaxis(expected, 0, -1), atol=1e-6)
    assert found.shape == (1, *shape, 2)


def test_a_spline_field_of_equal_controls_is_constant():
    field = log_bias(jnp.full((1, 4**2), 0.3), (9, 7), order=4, basis="bspline")
    np.testing.assert_allclose(field, 0.3, rtol=1e-5)
    assert bias_terms(3, 4, "bspline") == 64 and bias_terms(3, 3, "legendre") == 20


@pytest.mark.parametrize("per_channel", [False, True])
def test_channels_share_a_field_or_have_their_own(per_channel):
    settings = Intensity(
        bias=Draw(-0.2, 0.2, distribution="normal"),
        bias_order=4,
        bias_basis="bspline",
        bias_per_channel=per_channel,
        retain_stats=False,
    )
    image = jnp.ones((3, 8, 9, 2)).at[:, 0].set(0.0)
    drawn = sample_intensity(settings, jax.random.split(jax.random.key(0), 3), 2, 2)
    out = apply_intensity(settings, drawn, image)
    assert bool((out[:, 1:] > 0).all()), "a bias field is positive"
    assert bool((out[..., 0] == out[..., 1]).all()) == (not per_channel)
    assert float(jnp.log(out[:, 1:]).std()) == pytest.approx(0.1, abs=0.07)


def test_wrong_number_of_bias_coefficients_is_named():
    with pytest.raises(ValueError, match="10 bias coefficients for order 3 in 3D: give 20"):
        log_bias(jnp.zeros((1, 10)), (4, 4, 4))
