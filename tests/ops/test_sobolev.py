import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxmedgen.ops.sobolev import (
    GaussianMetric,
    SobolevMetric,
    energy,
    flat,
    sample_velocity,
    sharp,
    sqrt_flat,
    sqrt_sharp,
)

RNG = np.random.default_rng(0)


def stencil(v, alpha, beta, gamma, power, spacing):
    """L by finite differences in numpy, of the velocity in mm."""
    n, v = v.shape[-1], np.asarray(v) * spacing

    def central(x, j):
        return (np.roll(x, -1, j) - np.roll(x, 1, j)) / (2 * spacing[j])

    for _ in range(power):
        out = gamma * v
        for j in range(n):
            second = np.roll(v, -1, j) - 2 * v + np.roll(v, 1, j)
            out = out - alpha * second / spacing[j] ** 2
        divergence = sum(central(v[..., j], j) for j in range(n))
        v = out - beta * np.stack([central(divergence, i) for i in range(n)], -1)
    return v * spacing


@pytest.mark.parametrize("shape", [(8, 9), (6, 7, 8)])
@pytest.mark.parametrize("beta, power", [(0.0, 3), (0.7, 1)])
def test_metric_agrees_with_finite_differences_and_k_inverts_it(shape, beta, power):
    spacing = (1.0, 2.0, 1.5)[: len(shape)]
    metric = SobolevMetric(3.0, 0.5, power, beta, spacing)
    with jax.enable_x64(True):
        v = jnp.asarray(RNG.normal(size=(1, *shape, len(shape))))
        m = flat(v, metric)
        expected = stencil(v[0], 3.0, beta, 0.5, power, spacing)
        np.testing.assert_allclose(m[0], expected, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(sharp(m, metric), v, atol=1e-10)
        np.testing.assert_allclose(energy(v, metric), 0.5 * np.sum(v[0] * expected), rtol=1e-12)
    assert m.dtype == jnp.float64


@pytest.mark.parametrize("beta", [0.0, 0.7])
def test_square_roots_are_symmetric_and_inverse(beta):
    metric = SobolevMetric(alpha=2.0, beta=beta, power=2)
    with jax.enable_x64(True):
        x, y = jnp.asarray(RNG.normal(size=(2, 1, 6, 7, 8, 3)))
        twice = sqrt_sharp(sqrt_sharp(x, metric), metric)
        np.testing.assert_allclose(twice, sharp(x, metric), atol=1e-12)
        np.testing.assert_allclose(sqrt_flat(sqrt_sharp(x, metric), metric), x, atol=1e-12)
        symmetric = jnp.vdot(sharp(x, metric), y) - jnp.vdot(x, sharp(y, metric))
    assert abs(float(symmetric)) < 1e-12


def test_transforms_agree():
    metric = SobolevMetric()
    x = jnp.asarray(RNG.normal(size=(2, 12, 9, 10, 3)), jnp.float32)
    out = [sharp(x, metric, transform=t) for t in ("fft", "matrix", "auto", "native")]
    for other in out[1:]:
        np.testing.assert_allclose(out[0], other, atol=1e-6)
    assert float(jnp.abs(out[0]).max()) > 0.01


@pytest.mark.parametrize("shape", [(33, 35), (6, 14, 40)])
def test_kernel_for_cpu_has_its_transpose_and_batches(shape):
    # Lengths with factors 2, 3, 4, 5, 7, 11, and blocks that are not full.
    metric = SobolevMetric(alpha=1.0, power=2)
    x, y = jnp.asarray(RNG.normal(size=(2, 2, *shape, len(shape))), jnp.float32)
    kernel = functools.partial(sharp, metric=metric, transform="native")
    plain = sharp(x, metric, transform="fft")
    np.testing.assert_allclose(kernel(x), plain, atol=2e-6)
    np.testing.assert_allclose(jax.vmap(kernel)(x[:, None])[:, 0], plain, atol=2e-6)
    np.testing.assert_allclose(jax.jvp(kernel, (y,), (x,))[1], plain, atol=2e-6)
    np.testing.assert_allclose(jax.vjp(kernel, y)[1](x)[0], plain, atol=2e-6)
    with pytest.raises(ValueError, match="float32"):
        kernel(x.astype(jnp.bfloat16))


def test_sum_of_gaussians_agrees_with_scipy():
    metric = GaussianMetric((1.5, 3.0), (0.7, 0.3))
    x = RNG.normal(size=(1, 24, 20, 2))

    def blur(s):
        return ndimage.gaussian_filter(x, (0, s, s, 0), mode="wrap", truncate=8)

    with jax.enable_x64(True):
        out = sharp(jnp.asarray(x), metric)
        np.testing.assert_allclose(out, 0.7 * blur(1.5) + 0.3 * blur(3.0), atol=1e-4)
        assert float(jnp.abs(out).max()) > 0.1
        with pytest.raises(ValueError, match="start from a momentum"):
            flat(jnp.asarray(x), metric)


def test_samples_have_the_strength_asked_for_and_their_own_key():
    metric, spacing = SobolevMetric(), (2.0, 1.0, 1.5)
    keys = jax.random.split(jax.random.key(0), 3)
    rms = jnp.asarray([1.0, 2.0, 3.0])
    v = sample_velocity(keys, (9, 8, 7), metric, rms=rms, spacing=spacing)
    size = np.sqrt((np.square(v * np.asarray(spacing))).sum(-1).mean((1, 2, 3)))
    np.testing.assert_allclose(size, rms, rtol=1e-5)
    alone = sample_velocity(keys[1:2], (9, 8, 7), metric, rms=2.0, spacing=spacing)
    np.testing.assert_allclose(v[1:2], alone, atol=1e-5)
    asked = jnp.asarray([5.0, 40.0, 7.0])
    of_energy = sample_velocity(keys, (9, 8, 7), metric, mean_energy=asked, spacing=spacing)
    momentum = np.asarray(flat(of_energy, metric))
    own = 0.5 * (momentum * np.asarray(of_energy)).sum(-1).mean((1, 2, 3))
    np.testing.assert_allclose(own, asked, rtol=1e-4)
    with pytest.raises(ValueError, match="give one of them"):
        sample_velocity(keys, (9, 8, 7), metric)
    # Neighbours of white noise are independent, those of K^(1/2) noise nearly equal.
    x = np.asarray(v[..., 0])
    assert (x * np.roll(x, 1, 2)).sum() > 0.7 * (x * x).sum()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: SobolevMetric(alpha=0), "alpha 0"),
        (lambda: SobolevMetric(spacing=(1.0, 0.0)), "spacing"),
        (lambda: GaussianMetric((2.0, -1.0)), "sigma"),
        (lambda: GaussianMetric((2.0,), (1.0, 1.0)), "weight"),
        (lambda: sharp(jnp.zeros((1, 4, 4, 3)), SobolevMetric()), "3 components"),
        (lambda: sharp(jnp.zeros((1, 4, 4, 2)), SobolevMetric(spacing=(1.0,))), "spacing"),
        (
            lambda: sharp(jnp.zeros((1, 4, 4, 2)), SobolevMetric(beta=1), transform="matrix"),
            "'fft'",
        ),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
