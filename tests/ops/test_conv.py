"""The CPU formulations against plain lax: values, gradients, second derivatives, partitioning."""

import functools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxmedgen
from jaxmedgen.ops.conv import conv
from jaxmedgen.ops.kernels import conv_native
from jaxmedgen.ops.kernels.platform import target_platform

BACKENDS = (
    "stacked",
    pytest.param(
        "native", marks=pytest.mark.skipif(not conv_native.available(), reason="no C++ compiler")
    ),
)


def _data(size, taps, ci, co, groups=1, batch=2, seed=0):
    rng = np.random.default_rng(seed)
    x = jnp.asarray(rng.normal(size=(batch, *size, ci)), jnp.float32)
    k = jnp.asarray(rng.normal(size=(*taps, ci // groups, co)), jnp.float32)
    return x, k


def _close(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    np.testing.assert_allclose(a, b, atol=3e-5 * (1 + np.abs(b).max()), rtol=0)


CASES = {
    "3d": ((5, 6, 7), (3, 3, 3), 4, 6, {}),
    "3d depth taps": ((6, 5, 4), (3, 1, 1), 4, 6, {}),
    "3d plane taps": ((6, 5, 4), (1, 3, 3), 4, 6, {}),
    "3d pointwise": ((4, 5, 3), (1, 1, 1), 4, 6, {}),
    "3d even kernel": ((6, 5, 4), (4, 2, 2), 4, 6, {}),
    "3d one channel": ((5, 6, 7), (3, 3, 3), 1, 3, {}),
    "3d stride 2": ((6, 7, 8), (3, 3, 3), 4, 6, {"stride": 2}),
    "3d anisotropic stride": ((4, 6, 8), (1, 3, 3), 4, 6, {"stride": (1, 2, 2)}),
    "3d stride is kernel": ((4, 6, 8), (2, 2, 2), 4, 6, {"stride": 2}),
    "3d stride over kernel": ((7, 6, 8), (1, 1, 1), 4, 6, {"stride": 2}),
    "3d stride 3 valid": ((8, 9, 10), (3, 2, 4), 4, 6, {"stride": (3, 2, 3), "padding": "VALID"}),
    "3d dilation": ((7, 8, 9), (3, 3, 3), 4, 6, {"dilation": (2, 1, 3)}),
    "3d dilation and stride": ((7, 8, 9), (3, 3, 3), 4, 6, {"dilation": 2, "stride": 2}),
    "3d groups": ((5, 6, 7), (3, 3, 3), 4, 6, {"groups": 2}),
    "3d groups stride": ((5, 6, 7), (3, 3, 3), 4, 6, {"groups": 2, "stride": 2}),
    "3d depthwise": ((5, 6, 7), (3, 3, 3), 4, 8, {"groups": 4}),
    "3d groups in several blocks": ((3, 4, 4), (3, 3, 3), 72, 36, {"groups": 3}),
    "3d depthwise in several blocks": ((3, 4, 4), (3, 1, 3), 48, 48, {"groups": 48}),
    "3d valid": ((5, 6, 7), (3, 2, 3), 4, 6, {"padding": "VALID"}),
    "3d reflect": ((5, 6, 7), (3, 3, 3), 4, 6, {"padding": "REFLECT"}),
    "3d circular": ((5, 6, 7), (3, 5, 3), 4, 6, {"padding": "CIRCULAR"}),
    "3d edge stride": ((5, 6, 7), (3, 3, 3), 4, 6, {"padding": "EDGE", "stride": 2}),
    "2d": ((6, 7), (3, 3), 4, 6, {}),
    "2d rows": ((6, 7), (3, 1), 4, 6, {}),
    "2d stride": ((6, 7), (3, 3), 4, 6, {"stride": 2}),
    "2d groups dilation": ((6, 7), (3, 3), 4, 6, {"groups": 2, "dilation": 2}),
}


@functools.cache
def _passes(name, backend):
    size, taps, ci, co, settings_ = CASES[name]
    x, k = _data(size, taps, ci, co, settings_.get("groups", 1))

    def f(x, k):
        y, back = jax.vjp(lambda x, k: conv(x, k, backend=backend, **settings_), x, k)
        return y, *back(jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape))

    return jax.jit(f)(x, k)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CASES)
def test_equals_lax_forward_and_gradients(name, backend):
    for ours, plain in zip(_passes(name, backend), _passes(name, "xla")):
        assert ours.shape == plain.shape
        _close(ours, plain)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("settings_", [{}, {"stride": 2}, {"groups": 2}], ids=str)
def test_gradient_penalty_double_backward(settings_, backend):
    x, k = _data((4, 5, 4), (3, 3, 3), 2, 4, settings_.get("groups", 1))

    def penalty(k, x, backend):
        def score(x):
            return jnp.sum(jnp.sin(conv(x, k, backend=backend, **settings_)))

        return jnp.sum(jax.grad(score)(x) ** 2)

    grad = jax.jit(jax.grad(penalty, argnums=(0, 1)), static_argnums=2)
    for ours, plain in zip(grad(k, x, backend), grad(k, x, "xla")):
        assert ours.shape == plain.shape
        _close(ours, plain)


@pytest.mark.parametrize("backend", BACKENDS)
def test_forward_mode_and_vmap(backend):
    x, k = _data((4, 5, 4), (3, 3, 3), 2, 4)
    dx, dk = _data((4, 5, 4), (3, 3, 3), 2, 4, seed=1)
    pushed = [
        jax.jvp(lambda x, k, b=b: conv(x, k, backend=b), (x, k), (dx, dk)) for b in (backend, "xla")
    ]
    for ours, plain in zip(*pushed):
        assert ours.shape == plain.shape
        _close(ours, plain)
    images, kernels = jnp.stack([x, dx]), jnp.stack([k, dk])

    def grads(backend, axes):
        def loss(x, k):
            return jnp.sum(jnp.sin(conv(x, k, backend=backend)))

        operands = (images if axes[0] == 0 else x, kernels if axes[1] == 0 else k)
        return jax.jit(jax.vmap(jax.grad(loss, (0, 1)), axes))(*operands)

    for axes in ((0, None), (None, 0), (0, 0)):
        for ours, plain in zip(grads(backend, axes), grads("xla", axes)):
            _close(ours, plain)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=12, deadline=None)
@given(
    channels=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    size=st.tuples(*[st.integers(3, 6)] * 3),
    taps=st.tuples(*[st.integers(1, 3)] * 3),
    stride=st.tuples(*[st.integers(1, 3)] * 3),
    padding=st.sampled_from(["SAME", "VALID", "EDGE"]),
)
def test_any_shape_equals_lax(backend, channels, size, taps, stride, padding):
    x, k = _data(size, taps, *channels, batch=1)
    ours = conv(x, k, stride=stride, padding=padding, backend=backend)
    plain = conv(x, k, stride=stride, padding=padding, backend="xla")
    assert ours.shape == plain.shape
    _close(ours, plain)


@pytest.mark.parametrize("backend", ["xla", *BACKENDS])
def test_bfloat16_is_accumulated_in_float32(backend):
    x, k = _data((6, 6, 6), (3, 3, 3), 64, 4)
    x, k = x.astype(jnp.bfloat16), k.astype(jnp.bfloat16)
    y = conv(x, k, backend=backend)
    assert y.dtype == jnp.bfloat16
    exact = conv(x.astype(jnp.float32), k.astype(jnp.float32), backend="xla")
    # One rounding to 8 bits at the end; 1728 bfloat16 additions would be far off.
    np.testing.assert_allclose(np.float32(y), exact, rtol=2**-8, atol=1e-2)


def test_float64_stays_float64():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x = jnp.asarray(rng.normal(size=(1, 4, 5, 4, 2)))
        k = jnp.asarray(rng.normal(size=(3, 3, 3, 2, 3)))
        y, plain = conv(x, k), conv(x, k, backend="xla")
        assert y.dtype == jnp.float64
        np.testing.assert_allclose(y, plain, atol=1e-12)


def test_circular_commutes_with_rolls():
    x, k = _data((5, 6, 4), (3, 3, 3), 2, 3)
    rolled = conv(jnp.roll(x, (2, 1), (1, 2)), k, padding="CIRCULAR")
    _close(rolled, jnp.roll(conv(x, k, padding="CIRCULAR"), (2, 1), (1, 2)))


@pytest.mark.parametrize("stride", [1, 2])
def test_partitions_over_batch_and_depth(stride):
    x, k = _data((8, 4, 4), (3, 3, 3), 3, 5, batch=4)

    def loss_and_grads(x, k):
        return jax.value_and_grad(
            lambda x, k: jnp.sum(jnp.sin(conv(x, k, stride=stride, backend="stacked"))), (0, 1)
        )(x, k)

    mesh = Mesh(np.asarray(jax.devices()[:8]).reshape(4, 2), ("data", "space"))
    split = NamedSharding(mesh, PartitionSpec("data", "space"))
    whole = NamedSharding(mesh, PartitionSpec())
    sharded = jax.jit(loss_and_grads, in_shardings=(split, whole))(x, k)
    for a, b in zip(jax.tree.leaves(sharded), jax.tree.leaves(jax.jit(loss_and_grads)(x, k))):
        _close(a, b)


def test_auto_follows_platform_and_devices(monkeypatch):
    x, k = _data((4, 4, 4), (3, 3, 3), 2, 3)
    traced = lambda k=k: str(jax.make_jaxpr(lambda x, k: conv(x, k))(x, k))  # noqa: E731
    with target_platform("tpu"):
        assert "custom_jvp_call" not in traced()
    with target_platform("cpu"):
        assert "custom_jvp_call" in traced()  # eight devices: what the partitioner understands
        monkeypatch.setattr(jax, "device_count", lambda: 1)
        assert ("jaxmedgen_conv" in traced()) == conv_native.available()
        pointwise = traced(k[:1, :1, :1])
        assert "jaxmedgen_conv" not in pointwise and "dot_general" in pointwise


def test_nothing_else_convolves():
    package = pathlib.Path(jaxmedgen.__file__).parent
    callers = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"\blax\.conv\w*\(|\bnn\.Conv\w*\(|convolve\(", path.read_text())
    }
    allowed = {"ops/conv.py", "ops/kernels/conv_cpu.py"}
    assert {c for c in callers if not c.startswith("ops/kernels/")} <= allowed
    assert allowed <= callers


@pytest.mark.parametrize(
    ("settings_", "text"),
    [
        ({"groups": 3}, "groups=3"),
        ({"stride": (2, 2)}, "stride"),
        ({"dilation": 0}, "dilation=0"),
        ({"padding": "VALID", "dilation": 4}, "extent"),
        ({"padding": "REFLECT", "dilation": 4}, "extent"),
    ],
)
def test_errors_name_the_setting(settings_, text):
    x, k = _data((4, 4, 4), (3, 3, 3), 4, 4)
    with pytest.raises(ValueError, match=text):
        conv(x, k, **settings_)
