import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from jaxmedgen.ops.filters import gaussian_filter


def test_gaussian_filter_agrees_with_scipy_and_width_may_differ_by_sample():
    x = np.random.default_rng(0).normal(size=(2, 20, 24, 16, 2)).astype(np.float32)
    out = jax.jit(gaussian_filter)(jnp.asarray(x), jnp.asarray([1.5, 3.0]))
    for b, sigma in enumerate((1.5, 3.0)):
        for c in range(2):
            expected = ndimage.gaussian_filter(x[b, ..., c], sigma, mode="reflect", truncate=8)
            np.testing.assert_allclose(out[b, ..., c], expected, atol=1e-5)
    unequal = gaussian_filter(jnp.asarray(x), (1.0, 0.0, 2.0))
    expected = ndimage.gaussian_filter(x[0, ..., 0], (1.0, 0.0, 2.0), truncate=8)
    np.testing.assert_allclose(unequal[0, ..., 0], expected, atol=1e-5)
    np.testing.assert_allclose(gaussian_filter(jnp.asarray(x), 0.0), x, atol=1e-6)
