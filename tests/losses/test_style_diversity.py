"""Style diversity: 0 where the drawn style is ignored, and what its definition says elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.losses.style_diversity import EVERY, style_diversity


def test_it_is_0_only_for_a_generator_that_ignores_its_style():
    rng = np.random.default_rng(0)
    real = jnp.asarray(rng.normal(size=(6, 4, 4, 1)), jnp.float32)
    label, z = jnp.asarray(rng.normal(size=(2, 6, 1, 1, 1)), jnp.float32)

    @jax.jit
    def measured(step, strength):
        def image(style):
            return label + strength * style + jnp.zeros((6, 4, 4, 1))

        return style_diversity(step, lambda: (image(z), image(0 * z)), real)

    assert measured(0, 0.0) == 0  # images of the batch differ, those of one label map do not
    between = np.mean([np.abs(real[i] - real[i - 1]).mean() for i in range(6)])
    expected = 0.5 * np.abs(z).mean() / between
    np.testing.assert_allclose(measured(2 * EVERY, 0.5), expected, rtol=1e-5)
    assert np.isnan(measured(EVERY + 1, 0.5))


def test_a_batch_of_one_has_no_pair_to_compare_with():
    one, other, real = jax.random.normal(jax.random.key(0), (3, 1, 4, 4, 1))
    assert np.isnan(style_diversity(jnp.int32(0), lambda: (one, other), real))
