"""Gaussian heads: starting point, limits with gradients, products, conditions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxmedgen.nets import gaussian_heads as heads


def test_a_head_starts_at_unit_variance_and_stays_float32():
    features = jnp.ones((2, 5), jnp.bfloat16)
    net = heads.GaussianHead(3)
    mean, log_variance = jax.jit(lambda k: net.apply(net.init(k, features), features))(
        jax.random.key(0)
    )
    assert mean.dtype == log_variance.dtype == jnp.float32
    np.testing.assert_array_equal(log_variance, 0)
    assert np.abs(mean).max() > 0


def test_log_variance_is_bounded_but_never_stuck():
    raw = jnp.array([-1e4, -100.0, -8.0, -3.0, 0.0, 7.9, 9.0, 50.0, 1e4])
    value, slope = jax.jit(jax.vmap(jax.value_and_grad(heads.bounded_log_variance)))(raw)
    assert (np.abs(value) < heads.LIMIT + 1e-3).all() and (np.diff(value) > 0).all()
    np.testing.assert_allclose(value[3:6], raw[3:6])
    np.testing.assert_allclose(slope[3:6], 1)
    assert (slope > 0).all() and np.isfinite(slope).all()


def test_merging_is_the_normalised_product_of_densities():
    z = np.linspace(-8, 8, 4001)
    a, b = (0.7, np.log(0.5)), (-1.2, np.log(2.5))
    product = stats.norm(a[0], np.exp(a[1] / 2)).pdf(z) * stats.norm(b[0], np.exp(b[1] / 2)).pdf(z)
    product /= product.sum()
    mean = (product * z).sum()
    variance = (product * (z - mean) ** 2).sum()
    arrays = [jnp.full((1, 1), v) for v in (*a, *b)]
    found = heads.merge_gaussians(*arrays)
    np.testing.assert_allclose(
        [found[0][0, 0], np.exp(found[1][0, 0])], [mean, variance], rtol=1e-4
    )
    wide = heads.merge_gaussians(arrays[0], jnp.full((1, 1), -100.0), arrays[2], arrays[3])
    np.testing.assert_allclose([wide[0][0, 0], wide[1][0, 0]], [0.7, -100.0], rtol=1e-5)


@pytest.mark.parametrize(("kind", "condition", "size"), [
    ("class", np.array([0, 2]), 3), ("vector", np.ones((2, 4), np.float32), 6),
    ("image", np.ones((2, 9, 8, 7, 2), np.float32), 6),
])  # fmt: skip
def test_conditions_become_vectors_that_a_prior_takes(kind, condition, size):
    embed = heads.ConditionEmbed(
        kind, classes=3, features=0 if kind == "class" else 6, widths=(4, 8)
    )
    prior = heads.LearnedPrior(5, (7,))

    def make(key):
        vector, _ = embed.init_with_output(key, jnp.asarray(condition))
        return vector, prior.init_with_output(key, vector)[0]

    vector, (mean, log_variance) = jax.eval_shape(make, jax.random.key(0))
    assert vector.shape == (2, size) and mean.shape == log_variance.shape == (2, 5)


def test_labels_that_are_no_classes_are_refused():
    heads.check_classes(np.array([0, 9]), 10)
    with pytest.raises(ValueError, match=r"digit has labels \[-1, 10\]"):
        heads.check_classes(np.array([3, 10, -1]), 10, "digit")
