"""CubeNet: scores that no turn changes, sizes of both parities, dropout in training only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.nets.cubenet import CubeNet
from jaxmedgen.ops.groups import act_on_image, point_group
from tests.nets.test_group_unet import random_variables


@pytest.mark.parametrize(
    ("name", "size", "stages", "kernel_size"), [("V", 12, 5, 5), ("T", 7, 3, 3), ("O", 6, 3, 5)]
)
def test_scores_are_the_same_for_every_turn(name, size, stages, kernel_size):
    """12 -> 6 -> 3 -> 2 -> 1, 7 -> 4 -> 2 and 6 -> 3 -> 2: strides on odd and even sizes."""
    net = CubeNet(point_group(name), 3, 8, kernel_size, stages, hidden=16)
    x = jax.random.normal(jax.random.key(0), (1, size, size, size, 2))
    turned = jnp.concatenate([act_on_image(x, m) for m in net.group.matrices])
    mirror = -np.eye(3, dtype=int)
    both = jnp.concatenate([turned, act_on_image(x, mirror), x[::-1] * 0.9])
    scores = np.asarray(jax.jit(net.apply)(random_variables(net, x), both))
    own, mirrored = scores[: net.group.order], scores[-2]
    size = np.abs(own).max()
    np.testing.assert_allclose(own, np.broadcast_to(own[0], own.shape), atol=1e-4 * size)
    assert np.abs(mirrored - own[0]).max() > 3e-3 * size  # turns alone are forgotten


def test_channels_double_and_dropout_is_of_training():
    net = CubeNet(point_group("V"), 2, 8, 3, 2, hidden=64)
    assert [net.features(stage) for stage in range(3)] == [2, 4, 8]
    x = jax.random.normal(jax.random.key(0), (4, 5, 5, 5, 1))
    variables = random_variables(net, x)

    @jax.jit
    def run(keys):
        drawn, updated = net.apply(variables, x, True, keys, mutable=["batch_stats"])
        still, _ = net.apply(variables, x, True, mutable=["batch_stats"])
        return drawn, still, updated

    drawn, still, updated = run(jax.random.split(jax.random.key(1), 4))
    assert np.abs(drawn - still).max() > 0.01
    assert "batch_stats" in updated
    with pytest.raises(ValueError, match="of 5 axes"):
        jax.eval_shape(net.init, jax.random.key(0), x[:, 0])


def test_kernel_noise_is_one_draw_for_the_batch_and_of_training_only():
    """Not of a sample's key: devices with other samples must have the same kernels."""
    net = CubeNet(
        point_group("V"), 2, 8, 3, 2, hidden=16, dropout=0.0, norm="none", kernel_noise=0.1
    )
    x = jax.random.normal(jax.random.key(0), (2, 5, 5, 5, 1))
    variables = random_variables(net, x)

    @jax.jit
    def run(x, keys, noise_key):
        return net.apply(variables, x, True, keys, noise_key), net.apply(variables, x)

    keys, draws = jax.random.split(jax.random.key(1), 2), jax.random.split(jax.random.key(2), 2)
    (first, still), (other, _) = (run(x, keys, key) for key in draws)
    assert np.abs(first - still).max() > 1e-3 and np.abs(first - other).max() > 1e-3
    turned, _ = run(x[::-1], keys, draws[0])
    np.testing.assert_allclose(turned[::-1], first, rtol=1e-5)
    alone, _ = run(x, keys[::-1], draws[0])
    np.testing.assert_allclose(alone, first, rtol=1e-6)
