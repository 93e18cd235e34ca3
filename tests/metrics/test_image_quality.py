"""Image against image: scikit-image, closed forms, and the sheet's identities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.metrics

from jaxmedgen.metrics.diversity import mean_feature_distance, pairwise_ms_ssim, random_pairs
from jaxmedgen.metrics.image_quality import (
    WEIGHTS,
    count_scales,
    fitting_window,
    mean_absolute_error,
    ms_ssim,
    normalized_cross_correlation,
    normalized_mean_squared_error,
    psnr,
    ssim,
)
from jaxmedgen.metrics.perceptual_distance import lpips, lpips_uncalibrated
from jaxmedgen.ops.upsample import average_pool


def images(shape, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 1, shape).astype(np.float32)
    y = np.clip(x + 0.2 * rng.normal(size=shape), 0, 1).astype(np.float32)
    return x, y


@pytest.mark.parametrize("shape", [(40, 33), (16, 18, 14)])
def test_ssim_is_scikit_images(shape):
    x, y = images(shape)
    expected = skimage.metrics.structural_similarity(
        x.astype(np.float64),
        y.astype(np.float64),
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    score = jax.jit(lambda a, b: ssim(a, b, data_range=1.0))
    a, b = (jnp.asarray(v)[None, ..., None] for v in (x, y))
    assert float(score(a, b)[0]) == pytest.approx(expected, abs=2e-6)
    assert float(score(b, a)[0]) == pytest.approx(float(score(a, b)[0]), abs=1e-6)
    assert float(score(a, a)[0]) == pytest.approx(1, abs=1e-6)
    # A large mean must not eat the variances.
    shifted = score(a + 100, b + 100)
    luminance_gone = skimage.metrics.structural_similarity(
        x.astype(np.float64) + 100,
        y.astype(np.float64) + 100,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert float(shifted[0]) == pytest.approx(luminance_gone, abs=1e-4)


def test_ms_ssim_is_ssim_at_one_scale_and_renormalises_weights():
    x, y = (jnp.asarray(v)[None, ..., None] for v in images((48, 44)))

    @jax.jit
    def scores(x, y):
        return (
            ssim(x, y, data_range=1.0),
            ms_ssim(x, y, data_range=1.0, scales=1),
            ms_ssim(x, y, data_range=1.0, scales=2),
            ms_ssim(x, -x, data_range=2.0),
            ssim(average_pool(x, 2), average_pool(y, 2), data_range=1.0),
        )

    plain, one, two, opposite, halved = (float(v[0]) for v in scores(x, y))
    assert one == pytest.approx(plain, abs=1e-6)
    assert [count_scales((n, n)) for n in (175, 176, 44, 43, 10)] == [4, 5, 3, 2, 0]

    # Two scales: contrast-structure of the first, all of the second.
    c2 = 0.03**2
    first = _contrast(np.asarray(x)[0, ..., 0], np.asarray(y)[0, ..., 0], c2)
    weights = np.asarray(WEIGHTS[:2]) / sum(WEIGHTS[:2])
    expected = first ** weights[0] * halved ** weights[1]
    assert two == pytest.approx(expected, abs=1e-5)
    assert opposite == 0  # negative structure is cut off
    with pytest.raises(ValueError, match="room for 3"):
        ms_ssim(x, y, data_range=1.0, scales=5)


def _contrast(x, y, c2):
    """Mean contrast-structure term by explicit windows."""
    taps = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    w = np.outer(taps, taps) / taps.sum() ** 2
    views = [
        np.lib.stride_tricks.sliding_window_view(v.astype(np.float64), (11, 11)) for v in (x, y)
    ]
    mx, my = ((v * w).sum((-1, -2)) for v in views)
    vx, vy = ((v**2 * w).sum((-1, -2)) - m**2 for v, m in zip(views, (mx, my)))
    cov = (views[0] * views[1] * w).sum((-1, -2)) - mx * my
    return ((2 * cov + c2) / (vx + vy + c2)).mean()


def test_errors_and_correlation_have_their_closed_forms():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 9, 7, 1)).astype(np.float32)
    a, b = jnp.asarray(x), jnp.asarray(x + 0.1)
    assert np.allclose(psnr(b, a, data_range=2.0), 10 * np.log10(4 / 0.01), atol=1e-3)
    assert np.isinf(psnr(a, a, data_range=1.0)).all()
    assert np.allclose(mean_absolute_error(b, a), 0.1, atol=1e-6)
    assert np.allclose(
        normalized_mean_squared_error(b, a), 63 * 0.01 / (x**2).sum((1, 2, 3)), rtol=1e-4
    )
    other = rng.normal(size=x.shape).astype(np.float32)
    expected = [np.corrcoef(p.ravel(), q.ravel())[0, 1] for p, q in zip(x, other)]
    assert np.allclose(normalized_cross_correlation(a, jnp.asarray(other)), expected, atol=1e-5)
    assert np.allclose(normalized_cross_correlation(a, 3 - 2 * a), -1, atol=1e-5)
    assert (np.asarray(normalized_cross_correlation(a, jnp.ones_like(a))) == 0).all()
    with pytest.raises(ValueError, match="data_range=0"):
        psnr(a, b, data_range=0)
    with pytest.raises(ValueError, match="larger than the image"):
        ssim(a, b, data_range=1.0)


def test_gradients_of_the_similarities_are_finite():
    x, y = (jnp.asarray(v)[None, ..., None] for v in images((24, 24)))
    grads = jax.jit(jax.grad(lambda a: ms_ssim(a, y, data_range=1.0).sum()))(jnp.zeros_like(x))
    assert np.isfinite(grads).all()


def test_perceptual_distance_by_hand():
    rng = np.random.default_rng(2)
    maps = [rng.normal(size=(3, 4, 5, 6)), rng.normal(size=(3, 2, 2, 4))]
    others = [rng.normal(size=m.shape) for m in maps]

    def unit(m):
        return m / np.linalg.norm(m, axis=-1, keepdims=True)

    expected = sum(
        ((unit(m) - unit(o)) ** 2).sum(-1).reshape(3, -1).mean(1) for m, o in zip(maps, others)
    )
    jax_maps, jax_others = ([jnp.asarray(m, jnp.float32) for m in s] for s in (maps, others))
    assert np.allclose(lpips_uncalibrated(jax_maps, jax_others), expected, atol=1e-5)
    assert np.allclose(lpips_uncalibrated(jax_maps, [5 * m for m in jax_maps]), 0, atol=1e-9)
    half = lpips(jax_maps, jax_others, [jnp.full(6, 0.5), jnp.full(4, 0.5)])
    assert np.allclose(half, expected / 2, atol=1e-5)
    with pytest.raises(ValueError, match="same layers"):
        lpips_uncalibrated(jax_maps, jax_others[:1])


def test_diversity_is_lower_for_equal_images():
    rng = np.random.default_rng(3)
    varied = rng.uniform(size=(8, 24, 24, 1)).astype(np.float32)
    same = np.repeat(varied[:1], 8, 0)
    assert pairwise_ms_ssim(same, data_range=1.0).min() > 0.999
    thick = np.random.default_rng(1).uniform(size=(3, 16, 16, 6, 1)).astype(np.float32)
    window = fitting_window(thick.shape[1:-1])
    assert window == (11, 11, 5)
    assert pairwise_ms_ssim(thick, data_range=1.0, window=window).max() < 0.5
    found = pairwise_ms_ssim(varied, data_range=1.0, pairs=20)
    assert len(found) == 20 and found.max() < 0.5
    assert len(random_pairs(5, 100)) == 10
    assert mean_feature_distance(np.array([[0.0, 0], [3, 4], [0, 0]])) == pytest.approx(10 / 3)
