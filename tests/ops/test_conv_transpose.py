"""Transposed convolution: adjoint of the strided one, lax, finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

from jaxmedgen.ops.conv import conv, conv_transpose
from jaxmedgen.ops.kernels import conv_native

BACKENDS = ("xla", "stacked") + (("native",) if conv_native.available() else ())

# size, taps, input and output channels, settings
CASES = {
    "no overlap": ((2, 3, 4), (2, 1, 3), 5, 4, {}),
    "overlap": ((3, 4, 2), (3, 3, 3), 4, 3, {"stride": 2}),
    "wide": ((3, 2, 4), (4, 5, 4), 2, 3, {"stride": (2, 2, 1)}),
    "gaps": ((3, 2, 4), (1, 2, 1), 2, 3, {"stride": 3}),
    "dilation": ((4, 3, 4), (3, 2, 3), 2, 3, {"stride": 2, "dilation": 2}),
    "groups": ((3, 4, 2), (3, 3, 3), 4, 6, {"stride": 2, "groups": 2}),
    "2d": ((3, 4), (4, 4), 4, 3, {"stride": 2}),
}


def _data(size, taps, ci, co, groups):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, *size, ci)), jnp.float32)
    return x, jnp.asarray(rng.normal(size=(*taps, ci // groups, co)), jnp.float32)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("name", CASES)
def test_is_the_adjoint_of_conv(name, padding, backend):
    size, taps, ci, co, settings = CASES[name]
    groups = settings.get("groups", 1)
    x, k = _data(size, taps, ci, co, groups)
    settings = {"stride": taps, "padding": padding, "backend": backend} | settings
    y = conv_transpose(x, k, **settings)
    z = jnp.asarray(np.random.default_rng(1).normal(size=y.shape), jnp.float32)
    # Channels exchanged, group by group.
    back = k.reshape(*taps, ci // groups, groups, co // groups)
    back = jnp.swapaxes(back, -1, -3).reshape(*taps, co // groups, ci)
    down = conv(z, back, **(settings | {"backend": "xla"}))
    assert down.shape == x.shape
    np.testing.assert_allclose(jnp.vdot(y, z), jnp.vdot(x, down), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("name", ["overlap", "wide", "no overlap"])
def test_equals_lax_with_gradients(name, padding, backend):
    size, taps, ci, co, settings = CASES[name]
    x, k = _data(size, taps, ci, co, 1)
    strides = settings.get("stride", taps)

    def ours(x, k):
        return conv_transpose(x, k, padding=padding, backend=backend, **settings)

    def plain(x, k):
        return lax.conv_transpose(
            x,
            jnp.swapaxes(k, -1, -2),
            (strides,) * 3 if isinstance(strides, int) else strides,
            padding,
            dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
            transpose_kernel=True,
        )

    out = jax.eval_shape(ours, x, k)
    # An argument, for XLA takes minutes over a constant here.
    weight = jnp.cos(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape)

    def passes(f):
        def run(x, k, weight):
            y, back = jax.vjp(f, x, k)
            return y, *back(weight)

        return jax.jit(run)(x, k, weight)

    for a, b in zip(passes(ours), passes(plain)):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, atol=2e-4, rtol=1e-4)


def test_derivatives_equal_finite_differences():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x = jnp.asarray(rng.normal(size=(1, 2, 3, 2, 2)))
        k = jnp.asarray(rng.normal(size=(3, 3, 3, 2, 2)))

        def f(x, k):
            return jnp.sin(conv_transpose(jnp.asarray(x), jnp.asarray(k), stride=2))

        assert f(x, k).dtype == jnp.float64
        check_grads(f, (x, k), order=2, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_neither_it_nor_its_gradients_dilate_the_input(backend):
    x, k = _data((3, 4, 2), (3, 3, 3), 4, 3, 1)

    def loss(x, k):
        return jnp.sum(conv_transpose(x, k, stride=2, backend=backend) ** 2)

    text = str(jax.make_jaxpr(jax.grad(loss, (0, 1)))(x, k))
    assert "lhs_dilation=(2" not in text


@pytest.mark.parametrize(
    ("settings", "text"),
    [({"padding": "REFLECT"}, "padding='REFLECT'"), ({"stride": 0}, "stride=0")],
)
def test_errors_name_the_setting(settings, text):
    x, k = _data((2, 2, 2), (2, 2, 2), 2, 2, 1)
    with pytest.raises(ValueError, match=text):
        conv_transpose(x, k, **settings)
