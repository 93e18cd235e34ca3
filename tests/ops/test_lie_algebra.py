import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.ops.lie_algebra import ad, ad_dagger, ad_star
from jaxmedgen.ops.sobolev import SobolevMetric, flat

SHAPES = [(6, 7), (5, 6, 7)]


def fields(shape, count):
    draw = np.random.default_rng(1).normal(size=(count, 2, *shape, len(shape)))
    return [jnp.asarray(x) for x in draw]


def difference(x, j):
    return (np.roll(x, -1, j + 1) - np.roll(x, 1, j + 1)) / 2


@pytest.mark.parametrize("shape", SHAPES)
def test_formulas(shape):
    n = len(shape)
    with jax.enable_x64(True):
        v, w = fields(shape, 2)
        out, star = ad(v, w), ad_star(v, w)
        v, w = np.asarray(v), np.asarray(w)
    for i in range(n):
        bracket = conservative = 0.0
        for j in range(n):
            bracket += difference(v[..., i], j) * w[..., j] - difference(w[..., i], j) * v[..., j]
            conservative += difference(v[..., j], i) * w[..., j]
            conservative += difference(v[..., j] * w[..., i], j)
        np.testing.assert_allclose(out[..., i], bracket, atol=1e-12)
        np.testing.assert_allclose(star[..., i], conservative, atol=1e-12)
    assert out.dtype == np.float64


@pytest.mark.parametrize("shape", SHAPES)
def test_ad_star_is_the_exact_transpose_and_keeps_energy_and_momentum(shape):
    with jax.enable_x64(True):
        v, u, m = fields(shape, 3)
        left, right = jnp.vdot(ad(v, u), m), jnp.vdot(u, ad_star(v, m))
        size = jnp.linalg.norm(m) * jnp.linalg.norm(v)
        assert abs(left / right - 1) < 1e-12
        assert abs(jnp.vdot(ad_star(v, m), v)) < 1e-13 * size
        # Rates of change at any m = L v: the total momentum does not change.
        rate = ad_star(v, flat(v, SobolevMetric())).sum(tuple(range(1, len(shape) + 1)))
        assert float(jnp.abs(rate).max()) < 1e-13 * float(jnp.abs(flat(v, SobolevMetric())).sum())


def test_ad_dagger_is_the_transpose_in_the_metric():
    metric = SobolevMetric(power=2)
    with jax.enable_x64(True):
        v, u, w = fields((5, 6, 7), 3)
        left = jnp.vdot(flat(w, metric), ad(v, u))
        right = jnp.vdot(flat(ad_dagger(v, w, metric), metric), u)
        assert abs(left / right - 1) < 1e-11


@pytest.mark.parametrize("operator", [ad, ad_star])
def test_derivatives_of_first_and_second_order_in_both_modes(operator):
    with jax.enable_x64(True):
        v, m, c, direction = fields((5, 6), 4)

        def loss(v):
            return jnp.sum(jnp.sin(operator(v, m * v)) * c)

        def slope(v):
            return jnp.vdot(jax.grad(loss)(v), direction)

        numeric = (loss(v + 1e-6 * direction) - loss(v - 1e-6 * direction)) / 2e-6
        np.testing.assert_allclose(slope(v), numeric, rtol=1e-7)
        np.testing.assert_allclose(jax.jvp(loss, (v,), (direction,))[1], numeric, rtol=1e-7)
        second = (slope(v + 1e-6 * direction) - slope(v - 1e-6 * direction)) / 2e-6
        over = jnp.vdot(jax.grad(slope)(v), direction)
        np.testing.assert_allclose(over, second, rtol=1e-6)
        forward = jax.jvp(jax.grad(loss), (v,), (direction,))[1]
        np.testing.assert_allclose(jnp.vdot(forward, direction), second, rtol=1e-6)
        assert abs(second) > 0


@pytest.mark.parametrize("shape", [(6, 7), (5, 1, 17), (4, 3, 2)])
@pytest.mark.parametrize("operator", [ad, ad_star])
def test_kernel_for_cpu_agrees_with_xla(operator, shape):
    v, m, c = (x.astype(jnp.float32) for x in fields(shape, 3))
    both = []
    for backend in ("native", "xla"):
        out, transpose = jax.vjp(functools.partial(operator, backend=backend), v, m)
        both.append((out, *transpose(c)))
    for a, b in zip(*both):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert float(jnp.abs(both[0][0]).max()) > 0.1


def test_vmap_over_either_argument():
    v, m = (x.astype(jnp.float32) for x in fields((5, 6), 2))
    one = ad_star(v[:1], m[:1])
    mapped = jax.vmap(ad_star, (None, 1), 1)(v[:1], m[:1][:, None])[:, 0]
    np.testing.assert_allclose(mapped, one, atol=1e-6)
    np.testing.assert_allclose(ad_star(v, m)[:1], one, atol=1e-6)
    assert one.shape == (1, 5, 6, 2)


def test_fields_have_a_component_an_axis():
    with pytest.raises(ValueError, match="backend 'fast'"):
        ad(jnp.zeros((1, 4, 4, 2)), jnp.zeros((1, 4, 4, 2)), backend="fast")
    with pytest.raises(ValueError, match="must both be"):
        ad(jnp.zeros((1, 4, 4, 3)), jnp.zeros((1, 4, 4, 3)))
