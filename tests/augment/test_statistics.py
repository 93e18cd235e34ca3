import jax.numpy as jnp
import numpy as np

from jaxmedgen.augment.statistics import lift, match_stats, power, value_range


def test_statistics_are_per_sample_and_channel():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 6, 3)).astype(np.float32)
    low, high = value_range(jnp.asarray(x))
    np.testing.assert_array_equal(low, x.min((1, 2)))
    np.testing.assert_array_equal(high, x.max((1, 2)))
    assert lift(low, jnp.asarray(x)).shape == (2, 1, 1, 3)
    reference = rng.uniform(size=x.shape).astype(np.float32)
    out = match_stats(jnp.asarray(x), jnp.asarray(reference))
    np.testing.assert_allclose(out.mean((1, 2)), reference.mean((1, 2)), atol=1e-6)
    np.testing.assert_allclose(out.std((1, 2)), reference.std((1, 2)), atol=1e-6)


def test_power_agrees_with_numpy_and_never_gives_nan():
    x = np.linspace(0, 1, 50, dtype=np.float32).reshape(1, 50, 1)
    for g in (0.3, 1.0, 2.5):
        out = power(jnp.asarray(x), jnp.full((1, 1), g))
        np.testing.assert_allclose(out, x**g, rtol=2e-6, atol=1e-9)
    outside = power(jnp.asarray([[[-1e-7], [1 + 1e-6]]]), jnp.full((1, 1), 0.5))
    np.testing.assert_allclose(outside, [[[0.0], [1.0]]], atol=1e-6)
