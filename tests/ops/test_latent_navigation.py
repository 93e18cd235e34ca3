"""Walks along a class gradient, against the closed form of a linear classifier."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.ops.latent_navigation import ascend_class


def test_a_linear_classifier_is_walked_straight_until_it_is_sure():
    weights = np.array([[0.0, 1.0], [0.0, 2.0], [0.0, -1.0]])
    start = jnp.asarray([[0.0, 0.0, 0.0], [-1.0, 0.5, 0.3]])

    @jax.jit
    def walks(start):
        scores = lambda z: z @ weights  # noqa: E731
        free = ascend_class(scores, start, 1, rate=0.1, steps=60, stop=0.99)
        return free, ascend_class(scores, start, 1, rate=0.1, steps=60, radius=1.0)

    free, held = walks(start)
    path = np.asarray(free.latents)
    # Every step is rate times the weights of the class, until log(99) is exceeded.
    needed = int(np.ceil(np.log(99) / (0.1 * (weights[:, 1] ** 2).sum())))
    expected = 0.1 * np.minimum(np.arange(61), needed)[:, None] * weights[:, 1]
    np.testing.assert_allclose(path[:, 0], expected, atol=1e-5)
    chance = np.asarray(free.probability)
    assert (np.diff(chance, axis=0) >= 0).all() and (chance[-1] > 0.99).all()
    norms = np.linalg.norm(np.asarray(held.latents)[1:], axis=-1)
    assert norms.max() <= 1 + 1e-5
