import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.augment.quarter_turns import QuarterTurns

KEYS = jax.random.split(jax.random.key(0), 400)


def test_all_turns_occur_at_their_share_and_labels_follow():
    image = jnp.arange(16.0).reshape(1, 4, 4, 1).repeat(400, 0)
    turned, label = jax.jit(QuarterTurns(0.7))(KEYS, image, image[..., 0].astype(jnp.int32))
    np.testing.assert_array_equal(turned[..., 0].astype(jnp.int32), label)
    shares = [
        np.mean([np.array_equal(x, np.rot90(np.arange(16).reshape(4, 4), k)) for x in label])
        for k in range(4)
    ]
    # 400 draws: five standard deviations are 0.11.
    np.testing.assert_allclose(shares, [0.3, 0.7 / 3, 0.7 / 3, 0.7 / 3], atol=0.11)
    assert sum(shares) == 1


def test_oblong_images_are_turned_upside_down_only():
    image = jnp.arange(8.0).reshape(1, 2, 4, 1).repeat(400, 0)
    turned, _ = jax.jit(QuarterTurns(1.0))(KEYS, image, image[..., 0].astype(jnp.int32))
    np.testing.assert_array_equal(turned, image[:, ::-1, ::-1])
