"""Steerable layers and U-Net: fields turn by Wigner matrices, the network by permutation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxmedgen.nets.steerable_layers import (
    IrrepNorm,
    SteerableConv,
    gate,
    kernel_basis,
    kernel_taps,
    pool_irreps,
)
from jaxmedgen.nets.steerable_unet import SteerableUNet
from jaxmedgen.ops.groups import act_on_image, point_group
from jaxmedgen.ops.harmonics import real_wigner_matrix

RNG = np.random.default_rng(0)
TURN = point_group("O").matrices[7]
UNIT = (1.0, 1.0, 1.0)


def random_variables(net, x, scale=0.3):
    shapes = jax.eval_shape(net.init, jax.random.key(0), x)
    return jax.tree.map(lambda s: jnp.asarray(scale * RNG.normal(size=s.shape), "f4"), shapes)


def fields(*multiplicities, size=6):
    return tuple(
        jnp.asarray(RNG.normal(size=(1, size, size, size, 2 * n + 1, c)), jnp.float32)
        for n, c in enumerate(multiplicities)
    )


def turned(field):
    """A field of degree n rotated by `TURN`: moved, and its components mixed."""
    n = field.shape[-2] // 2
    flat = act_on_image(field.reshape(*field.shape[:-2], -1), TURN)
    matrix = jnp.asarray(real_wigner_matrix(n, TURN), jnp.float32)
    return jnp.einsum("ij,...jc->...ic", matrix, flat.reshape(field.shape))


@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_every_layer_commutes_with_rotation_of_fields(reduce):
    x = fields(3, 2, 1)
    conv, norm = SteerableConv((5, 2, 1), kernel_size=3), IrrepNorm()
    conv_variables = random_variables(conv, x)
    norm_variables = random_variables(norm, jax.eval_shape(conv.apply, conv_variables, x), 1.0)

    @jax.jit
    def layers(x):
        mixed = conv.apply(conv_variables, x)
        normed = norm.apply(norm_variables, mixed)
        return mixed, normed, gate(normed), pool_irreps(mixed, UNIT, reduce)

    plain, moved = layers(x), layers(tuple(map(turned, x)))
    assert [f.shape[-2:] for f in plain[2]] == [(1, 2), (3, 2), (5, 1)]
    assert plain[3][1].shape == (1, 3, 3, 3, 3, 2)
    for name, a, b in zip(("conv", "norm", "gate", "pool"), plain, moved):
        for n, (one, other) in enumerate(zip(a, b)):
            scale = float(jnp.abs(one).max())
            assert scale > 0.05
            message = f"{name}, degree {n}"
            np.testing.assert_allclose(turned(one), other, atol=2e-5 * scale, err_msg=message)


def test_kernels_commute_with_any_rotation_to_the_grid_s_accuracy():
    """``K(R v) = D_out(R) K(v) D_in(R)^T``, summed against a smooth function of v."""
    rotation = Rotation.from_euler("zyx", [30, 40, 50], degrees=True).as_matrix()
    basis = kernel_basis((13, 13, 13), 2, UNIT, 1, 2)[:, :, :, 4]
    grid = np.stack(np.meshgrid(*(np.arange(-6, 7.0),) * 3, indexing="ij"), -1)

    def response(matrix):
        v = grid @ matrix  # R^-1 v
        smooth = np.exp(-((v - [1.5, 0.5, 1.0]) ** 2).sum(-1) / 8)
        return np.einsum("xyz,xyzab->ab", smooth, basis)

    d_in, d_out = (real_wigner_matrix(n, rotation) for n in (1, 2))
    plain, moved = response(np.eye(3)), response(rotation)
    np.testing.assert_allclose(d_in @ plain @ d_out.T, moved, atol=0.03 * np.abs(plain).max())


def test_anisotropic_voxels_get_kernels_of_equal_reach():
    assert kernel_taps(5, (1.0, 1.0, 2.0)) == (5, 5, 3)
    assert kernel_taps(5, (3.0, 1.0, 1.0)) == (3, 5, 5)


def test_the_whole_network_commutes_with_the_cube_s_turns():
    net = SteerableUNet(2, multiplicity=1, depth=1, kernel_size=3)
    x = jnp.asarray(RNG.normal(size=(1, 8, 8, 8, 2)), jnp.float32)
    matrices = point_group("O").matrices[[0, 5, 11, 17, 23]]
    moved = jnp.concatenate([act_on_image(x, m) for m in matrices])
    outputs = jax.jit(net.apply)(random_variables(net, x, 1.0), moved)
    expected = np.concatenate([act_on_image(outputs[:1], m) for m in matrices])
    assert outputs.std() > 0.01
    np.testing.assert_allclose(outputs, expected, atol=1e-4)
    with pytest.raises(ValueError, match="multiples of 2"):
        net.init(jax.random.key(0), x[:, :7])
