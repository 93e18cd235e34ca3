"""Turning images by a group: averaged networks, random turns, and the measure of equivariance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.augment.group_rotation import GroupRotation
from jaxmedgen.metrics.equivariance import equivariance_errors
from jaxmedgen.ops.conv import conv
from jaxmedgen.ops.group_average import group_average
from jaxmedgen.ops.groups import act_on_image, point_group

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("name", "shape"), [("D4", (4, 5, 6)), ("T", (4, 4, 4))])
def test_the_average_commutes_where_the_network_does_not(name, shape):
    kernel = jnp.asarray(RNG.normal(size=(3, 3, 3, 1, 2)), jnp.float32)
    x, group = jnp.asarray(RNG.normal(size=(1, *shape, 1)), jnp.float32), point_group(name)

    def network(x):
        return jnp.tanh(conv(x, kernel))

    averaged = jax.jit(lambda x: group_average(network, x, group))
    assert equivariance_errors(averaged, x, group).max() < 1e-5
    assert equivariance_errors(jax.jit(network), x, group)[1:].min() > 0.3
    moved = [network(act_on_image(x, m)) for m in group.matrices]
    expected = sum(act_on_image(y, m.T) for y, m in zip(moved, group.matrices)) / group.order
    np.testing.assert_allclose(averaged(x), expected, atol=1e-6)


def test_random_turns_are_those_of_the_group_and_equally_likely():
    group = point_group("D4")
    rotation = GroupRotation(group)
    image = jnp.asarray(RNG.normal(size=(1, 4, 4, 6, 2)), jnp.float32)
    label = jnp.asarray(RNG.integers(0, 9, (1, 4, 4, 6)), jnp.int32)
    every = jnp.arange(8)
    moved, moved_label = rotation.apply(
        every, jnp.repeat(image, 8, axis=0), jnp.repeat(label, 8, axis=0)
    )
    for g, matrix in enumerate(group.matrices):
        np.testing.assert_array_equal(moved[g], act_on_image(image, matrix)[0])
        np.testing.assert_array_equal(
            moved_label[g], act_on_image(label[..., None], matrix)[0, ..., 0]
        )
    keys = jax.random.split(jax.random.key(0), 800)
    small = jnp.arange(64.0).reshape(1, 4, 4, 4, 1)
    draws, _ = jax.jit(rotation)(
        keys, jnp.repeat(small, 800, axis=0), jnp.zeros((800, 4, 4, 4), jnp.int32)
    )
    counts = np.unique(draws.reshape(800, -1), axis=0, return_counts=True)[1]
    assert len(counts) == 8
    assert counts.min() > 60
    with pytest.raises(ValueError, match="equal sizes"):
        rotation(keys[:1], jnp.zeros((1, 4, 5, 6, 1)), jnp.zeros((1, 4, 5, 6), jnp.int32))
