"""Adaptive and label-modulated normalisation against numpy."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.nets.adaptive_norm import AdaptiveInstanceNorm, ImageLayerNorm, ScaleBiasMLP
from jaxmedgen.nets.modulation import Clade, Spade, class_offsets, nearest_resize

RNG = np.random.default_rng(0)
X = RNG.normal(2.0, 3.0, size=(3, 6, 5, 4)).astype(np.float32)
CLASSES = RNG.integers(0, 3, size=(3, 12, 10))
ONE_HOT = np.eye(3, dtype=np.float32)[CLASSES]


def instance(x):
    mean, variance = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5)


def test_layer_norm_spans_the_image_with_the_unbiased_deviation():
    y, variables = ImageLayerNorm().init_with_output(jax.random.key(0), jnp.asarray(X))
    mean = X.mean((1, 2, 3), keepdims=True)
    deviation = X.std((1, 2, 3), ddof=1, keepdims=True)
    expected = (X - mean) / (deviation + 1e-5) * np.asarray(variables["params"]["scale"])
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    gradient = jax.grad(lambda x: ImageLayerNorm().apply(variables, x).sum())(jnp.ones(X.shape))
    assert np.isfinite(gradient).all()


def test_adaptive_norm_takes_scales_and_biases_of_each_sample():
    scale, bias = RNG.normal(size=(2, 3, 4)).astype(np.float32)
    y = AdaptiveInstanceNorm().apply({}, jnp.asarray(X), jnp.asarray(scale), jnp.asarray(bias))
    expected = instance(X) * scale[:, None, None] + bias[:, None, None]
    np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-4)
    net = ScaleBiasMLP((4, 7), (8,))
    pairs, _ = net.init_with_output(jax.random.key(0), jnp.ones((3, 5)))
    assert [p[0].shape for p in pairs] == [(3, 4), (3, 7)]


def test_clade_gathers_the_table_row_of_each_pixel_s_class():
    net = Clade("instance")
    y, variables = net.init_with_output(jax.random.key(0), jnp.asarray(X), jnp.asarray(ONE_HOT))
    table = np.asarray(variables["params"]["gamma"])
    classes = CLASSES[:, 1::2, 1::2]  # centres of blocks of two, rounded up
    np.testing.assert_allclose(y, instance(X) * table[classes], rtol=1e-3, atol=1e-4)


def test_spade_of_a_uniform_label_map_is_one_affine_map_a_channel_away_from_the_edge():
    net = Spade(hidden=8, norm="instance")
    x = RNG.normal(size=(1, 9, 9, 4)).astype(np.float32)
    label = np.zeros((1, 9, 9, 3), np.float32)
    label[..., 1] = 1
    y, variables = net.init_with_output(jax.random.key(0), jnp.asarray(x), jnp.asarray(label))
    kernels = {k: np.asarray(v["kernel"]).sum((0, 1)) for k, v in variables["params"].items()}
    hidden = np.maximum(kernels["shared"][1], 0)
    gamma, beta = hidden @ kernels["gamma"], hidden @ kernels["beta"]
    expected = instance(x) * (1 + gamma) + beta
    inner = (slice(None), slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(np.asarray(y)[inner], expected[inner], rtol=1e-3, atol=1e-4)


def test_batch_modulation_uses_running_means_after_training():
    net = Spade(hidden=4)
    x, label = jnp.asarray(X), jnp.asarray(ONE_HOT)
    variables = net.init(jax.random.key(0), x, label)
    _, new = net.apply(variables, x, label, train=True, mutable=["batch_stats"])
    running = new["batch_stats"]["norm"]["mean"]
    np.testing.assert_allclose(running, 0.1 * X.mean((0, 1, 2)), rtol=1e-4)
    alone = net.apply({**variables, **new}, x[:1], label[:1], train=False)
    together = net.apply({**variables, **new}, x, label, train=False)
    np.testing.assert_allclose(alone[0], together[0], rtol=1e-5, atol=1e-6)


def test_nearest_resize_takes_centres_and_keeps_one_hot():
    small = np.asarray(nearest_resize(jnp.asarray(ONE_HOT), (7, 4)))
    rows = ((np.arange(7) + 0.5) * 12 / 7).astype(int)
    columns = ((np.arange(4) + 0.5) * 10 / 4).astype(int)
    np.testing.assert_array_equal(small, ONE_HOT[:, rows][:, :, columns])


def test_offsets_within_a_class_are_exact_in_half_precision():
    """Up to the rounding of the result, 2^-9: the centre is a sum over all voxels."""
    rows, columns = np.mgrid[:300, :300]
    organ = (rows - 210) ** 2 + (columns - 225) ** 2 < 24**2
    label = np.eye(2, dtype=np.float32)[organ.astype(int)][None]
    found = class_offsets(jnp.asarray(label, jnp.bfloat16))
    assert found.dtype == jnp.bfloat16
    expected = class_offsets(jnp.asarray(label))
    np.testing.assert_allclose(np.asarray(found, np.float32), expected, rtol=2**-8, atol=1e-6)
    place = (rows - rows[organ].mean())[organ]
    np.testing.assert_allclose(expected[0, organ, 0], place / np.abs(place).max(), atol=1e-4)
