"""LRI layers: right-angle turns move their maps exactly, and invariants do not see the rotation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxmedgen.nets.harmonic_layers import LRIConv, LRINet
from jaxmedgen.ops.groups import act_on_image, point_group
from jaxmedgen.ops.harmonics import degree_slice, real_wigner_matrices, wigner_matrix
from jaxmedgen.ops.steerable import bispectrum_triples

RNG = np.random.default_rng(0)
TURN = point_group("O").matrices[5]


def random_variables(layer, x):
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)
    return jax.tree.map(lambda s: jnp.asarray(RNG.normal(size=s.shape), jnp.float32), shapes)


@pytest.mark.parametrize(
    ("settings", "channels", "weights"),
    [
        ({"kind": "s", "degree": 2}, 2, 2 * 3 * 5 + 2 * 9 + 2),
        ({"kind": "sse", "degree": 2}, 6, 2 * 3 * 5 + 6),
        ({"kind": "sse", "polar_separable": True}, 4, 2 * 5 + 4),
        ({"kind": "ssb", "degree": 2}, 10, 2 * 3 * 5 + 10),
        ({"kind": "g"}, 2, 2 * 125 + 2),
    ],
)
def test_maps_turn_with_the_image(settings, channels, weights):
    layer = LRIConv(2, kernel_size=5, **settings)
    x = jnp.asarray(RNG.normal(size=(1, 7, 7, 7, 1)), jnp.float32)
    variables = random_variables(layer, x)
    assert sum(v.size for v in jax.tree.leaves(variables)) == weights
    both = jax.jit(layer.apply)(variables, jnp.concatenate([x, act_on_image(x, TURN)]))
    assert both.shape == (2, 7, 7, 7, channels)
    scale = float(jnp.abs(both).max())
    np.testing.assert_allclose(act_on_image(both[:1], TURN), both[1:], atol=1e-5 * scale)


def test_a_plain_kernel_and_one_rotation_are_not_invariant():
    x = jnp.asarray(RNG.normal(size=(1, 7, 7, 7, 1)), jnp.float32)
    for layer in (LRIConv(1, "plain", 3), LRIConv(1, "s", 5, rotations=1)):
        variables = random_variables(layer, x)
        both = layer.apply(variables, jnp.concatenate([x, act_on_image(x, TURN)]))
        assert float(jnp.abs(act_on_image(both[:1], TURN) - both[1:]).max()) > 0.5


@pytest.mark.parametrize("kind", ["sse", "ssb"])
def test_invariants_ignore_any_rotation_of_the_responses(kind):
    """Rotated by Wigner's matrices the responses give the same invariants, at any angle."""
    layer = LRIConv(1, kind, degree=3)
    rotation = Rotation.from_euler("zyx", [20, 50, 80], degrees=True).as_matrix()
    responses = RNG.normal(size=(4, 1, 16))
    turned = responses @ real_wigner_matrices(3, rotation[None])[0].T
    a, b = (layer._invariants(jnp.asarray(r, jnp.float32)) for r in (responses, turned))
    assert a.shape == (4, 4 if kind == "sse" else len(bispectrum_triples(3)))
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    # Degree by degree rotated apart, relations are lost: the bispectrum sees it, energy cannot.
    apart = responses.copy()
    apart[..., degree_slice(2)] = turned[..., degree_slice(2)]
    c = layer._invariants(jnp.asarray(apart, jnp.float32))
    assert bool(jnp.allclose(a, c, rtol=1e-4, atol=1e-4)) == (kind == "sse")
    np.testing.assert_allclose(np.abs(np.linalg.det(wigner_matrix(3, rotation))), 1, rtol=1e-9)


def test_toy_network_pools_to_scores():
    net = LRINet(2, LRIConv(2, "sse", 5, degree=2))
    x = jnp.asarray(RNG.normal(size=(3, 6, 6, 6, 1)), jnp.float32)
    variables = random_variables(net, x)
    assert sum(v.size for v in jax.tree.leaves(variables)) == 2 * 3 * 5 + 6 + 6 * 2 + 2
    scores, moved = jax.jit(lambda x, y: (net.apply(variables, x), net.apply(variables, y)))(
        x, act_on_image(x, TURN)
    )
    assert scores.shape == (3, 2)
    np.testing.assert_allclose(moved, scores, rtol=1e-4, atol=1e-4)
