import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxmedgen.losses.kernel_penalty import kernel_penalty
from jaxmedgen.losses.label_smoothing import smooth_labels


def test_smoothing_is_the_box_mean_where_classes_mix():
    rng = np.random.default_rng(0)
    blobs = ndimage.gaussian_filter(rng.normal(size=(14, 13, 12)), 2)
    label = np.digitize(blobs, [-0.02, 0.05]).astype(np.int32)
    soft = np.asarray(jax.jit(lambda y: smooth_labels(y, 3, cut_off=0.7913))(label[None]))[0]
    hard = np.eye(3)[label]
    inside = ndimage.uniform_filter(np.ones(label.shape), 5, mode="constant")
    mean = np.stack(
        [ndimage.uniform_filter(hard[..., k], 5, mode="constant") / inside for k in range(3)], -1
    )
    settled = mean.max(-1) >= 0.7913
    assert 0.05 < settled.mean() < 0.95
    np.testing.assert_allclose(soft, np.where(settled[..., None], hard, mean), atol=1e-6)
    np.testing.assert_allclose(soft.sum(-1), 1, rtol=1e-6)


def test_a_speck_is_not_smoothed_away():
    label = jnp.zeros((1, 9, 9), jnp.int32).at[0, 4, 4].set(1)
    assert smooth_labels(label, 2)[0, 4, 4].tolist() == [0.0, 1.0]
    for settings in ({"neighbours": 4}, {"cut_off": 0.0}):
        with pytest.raises(ValueError, match="must be"):
            smooth_labels(label, 2, **settings)


def test_the_penalty_counts_kernels_only():
    params = {"a": {"kernel": jnp.full((2, 3), 2.0), "bias": jnp.ones(3)}, "scale": jnp.ones(5)}
    assert float(kernel_penalty(params, 0.5)) == pytest.approx(12.0)
