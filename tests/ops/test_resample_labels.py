"""Sampling label maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.ops.resample import resample, resample_labels


def test_labels_keep_ignore_values_and_fill_outside():
    labels = jnp.asarray([[[0, 255], [-1, 3]]], jnp.int32)
    x = jnp.asarray([[[0.4, 0.6], [0.6, 0.4], [0.9, 1.2], [-0.8, 0.0]]])
    np.testing.assert_array_equal(resample_labels(labels, x), [[255, -1, 3, 0]])
    np.testing.assert_array_equal(resample_labels(labels, x, fill=7), [[255, -1, 3, 7]])


@pytest.mark.parametrize("shape", [(7, 9), (6, 7, 8)])
def test_linear_labels_equal_argmax_of_one_hot(shape):
    rng = np.random.default_rng(3)
    x = rng.uniform(-1.5, np.asarray(shape) + 0.5, size=(2, 400, len(shape))).astype(np.float32)
    labels = rng.integers(0, 4, size=(2, *shape)).astype(np.int32)
    one_hot = jax.nn.one_hot(labels, 4)
    background = jnp.asarray([[1.0, 0, 0, 0]] * 2)
    soft = resample(one_hot, jnp.asarray(x), mode="constant", fill=background)
    out = resample_labels(jnp.asarray(labels), jnp.asarray(x), order=1)
    np.testing.assert_array_equal(out, jnp.argmax(soft, -1))


def test_errors_name_value_and_fix():
    x = jnp.zeros((1, 4, 2))
    with pytest.raises(ValueError, match="order 3 is unknown"):
        resample_labels(jnp.zeros((1, 4, 4), jnp.int32), x, order=3)
    with pytest.raises(ValueError, match="labels of type float32: they must be integers"):
        resample_labels(jnp.zeros((1, 4, 4)), x)
    with pytest.raises(ValueError, match="last axis must have size 3"):
        resample_labels(jnp.zeros((1, 4, 4, 4), jnp.int32), x)
