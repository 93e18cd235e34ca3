"""The U-Net: shapes, settings, gradients and equality over devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxmedgen.nets.unet import UNet

KEY = jax.random.key(0)


def _count(net, shape):
    variables = jax.eval_shape(lambda: net.init(KEY, jnp.zeros(shape)))
    return sum(p.size for p in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 1_401_170),
        ({"residual": True}, 1_423_394),
        ({"dims": 2}, 482_354),
        ({"features": (32, 64, 128, 256, 320)}, 16_543_650),
    ],
    ids=str,
)
def test_parameter_counts_of_the_docstring(settings, count):
    net = UNet(**settings)
    assert _count(net, (1, *(32,) * net.dims, 1)) == count
    assert f"{count:,}" in UNet.__doc__


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({"dims": 2, "residual": True, "norm": "group"}, (2, 8, 12, 3)),
        ({"strides": ((1, 2, 2), 2), "norm": "batch"}, (2, 2, 8, 4, 1)),
        ({"dtype": jnp.bfloat16, "blocks": (1, 2, 1), "upsample": "linear"}, (1, 4, 4, 8, 1)),
        ({"remat": True, "dropout": 0.2, "norm": "none"}, (1, 4, 4, 4, 1)),
    ],
    ids=str,
)
def test_logits_are_float32_of_the_images_size(settings, shape):
    net = UNet(**{"dims": 3, "features": (8, 8, 16), "classes": 3} | settings)
    x = jax.random.normal(KEY, shape)
    variables = jax.jit(net.init)(KEY, x)
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(variables))
    run = functools.partial(net.apply, train=True, mutable=["batch_stats"])
    out, _ = jax.jit(run)(variables, x, rngs={"dropout": jax.random.key(1)})
    assert out.shape == (*shape[:-1], 3) and out.dtype == jnp.float32
    assert np.isfinite(out).all()


def test_deep_supervision_gives_every_decoder_level_in_training_only():
    net = UNet(features=(4, 4, 8), classes=2, deep_supervision=True)
    x = jax.random.normal(KEY, (1, 8, 4, 4, 1))
    variables = jax.jit(net.init)(KEY, x)
    apply = jax.jit(net.apply, static_argnames="train")
    full, half = apply(variables, x, train=True)
    assert full.shape == (1, 8, 4, 4, 2) and half.shape == (1, 4, 2, 2, 2)
    np.testing.assert_allclose(apply(variables, x, train=False), full, rtol=1e-5)


def test_every_parameter_gets_a_gradient_and_remat_changes_none():
    x = jax.random.normal(KEY, (2, 8, 8, 8, 1))
    weights = jax.random.normal(jax.random.key(1), (2, 8, 8, 8, 2))
    settings = {"features": (4, 8, 8), "residual": True}
    variables = jax.jit(UNet(**settings).init)(KEY, x)

    def grads(remat):
        def loss(v):
            return jnp.mean(UNet(**settings, remat=remat).apply(v, x, train=True) * weights)

        return jax.jit(jax.grad(loss))(variables)

    plain, again = grads(False), grads(True)
    for path, g in jax.tree.leaves_with_path(plain):
        assert float(jnp.abs(g).max()) > 0, path
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(again)):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)


def test_same_logits_on_a_mesh_of_batch_and_depth():
    net = UNet(features=(4, 8), classes=2)
    x = jax.random.normal(KEY, (4, 8, 4, 4, 1))
    variables = jax.jit(net.init)(KEY, x)
    mesh = Mesh(np.asarray(jax.devices()[:8]).reshape(4, 2), ("data", "space"))
    whole, split = (
        NamedSharding(mesh, spec) for spec in (PartitionSpec(), PartitionSpec("data", "space"))
    )
    sharded = jax.jit(net.apply, in_shardings=(whole, split))(variables, x)
    np.testing.assert_allclose(sharded, jax.jit(net.apply)(variables, x), atol=2e-5)


@pytest.mark.parametrize(
    ("settings", "shape", "text"),
    [
        ({}, (1, 12, 16, 16, 1), r"\(12, 16, 16\).*\(8, 8, 8\).*\(16, 16, 16\)"),
        ({"dims": 2}, (1, 16, 16, 16, 1), "dims=2"),
        ({"strides": (2, 2)}, (1, 16, 16, 16, 1), "3 strides"),
        ({"blocks": (1, 2)}, (1, 16, 16, 16, 1), "blocks"),
    ],
)
def test_errors_say_what_fits(settings, shape, text):
    with pytest.raises(ValueError, match=text):
        UNet(**settings).init(KEY, jnp.zeros(shape))
