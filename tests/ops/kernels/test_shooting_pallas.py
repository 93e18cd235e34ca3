import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import ShapeDtypeStruct as Shape

from jaxmedgen.ops import lie_algebra, transport
from jaxmedgen.ops.kernels.ad_pallas import ad_pallas, ad_star_pallas
from jaxmedgen.ops.kernels.platform import target_platform
from jaxmedgen.ops.kernels.transport_pallas import forward_step_pallas, inverse_step_pallas
from jaxmedgen.ops.lie_algebra import ad_planes, ad_star_planes
from jaxmedgen.ops.shooting import shoot
from jaxmedgen.ops.sobolev import SobolevMetric
from tests.ops.kernels.lowering import compile_for_tpu, gpu_kernels, tpu_kernels

PLATFORMS = pytest.mark.parametrize("platform", ["gpu", "tpu"])
SPACES = pytest.mark.parametrize("space", [(6, 7), (4, 5, 6)])
TOPOLOGIES = pytest.mark.parametrize("topology", ["v5e:2x2", "v5p:2x2x1"])
FIELD = Shape((2, 3, 32, 32, 32), jnp.float32)
LAST = Shape((2, 32, 32, 32, 3), jnp.float32)


def draw(shape, count, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.uniform(-1, 1, size=shape), dtype) for _ in range(count)]


def with_gradients(f):
    """Compiled: value of `f` at fields, and the fields' gradients for a cotangent."""

    def run(g, *fields):
        y, back = jax.vjp(f, *fields)
        return y, *back(g)

    return jax.jit(run)


@PLATFORMS
@SPACES
def test_ad_and_its_transpose(platform, space):
    v, w, g = draw((2, len(space), *space), 3)
    for ours, reference in (ad_pallas, ad_planes), (ad_star_pallas, ad_star_planes):
        fused = functools.partial(ours, platform=platform, interpret=True)
        y, *gradients = with_gradients(fused)(g, v, w)
        assert y.shape == v.shape
        for a, b in zip([y, *gradients], with_gradients(reference)(g, v, w)):
            np.testing.assert_allclose(a, b, atol=1e-5)


@PLATFORMS
def test_ad_star_is_the_exact_transpose_and_keeps_energy(platform):
    with jax.enable_x64(True):
        v, u, m = draw((1, 3, 4, 5, 6), 3, jnp.float64)
        run = dict(platform=platform, interpret=True)
        moved, force = ad_pallas(v, u, **run), ad_star_pallas(v, m, **run)
        size = float(jnp.vdot(jnp.abs(u), jnp.abs(force)))
        assert abs(float(jnp.vdot(moved, m) - jnp.vdot(u, force))) < 1e-13 * size
        assert abs(float(jnp.vdot(force, v))) < 1e-13 * size
        # A derivative of the whole domain: each component's total vanishes for a constant v.
        still = ad_star_pallas(jnp.ones_like(v), m, **run)
        np.testing.assert_allclose(still.sum((2, 3, 4)), 0, atol=1e-13)


@PLATFORMS
@pytest.mark.parametrize("forward", [True, False])
def test_semi_lagrangian_steps_and_their_gradients(platform, forward):
    u, v, g = draw((2, 6, 7, 2), 3)
    u = 3 * u  # the map has moved far, the step has not
    ours = forward_step_pallas if forward else inverse_step_pallas
    reference = transport.forward_step if forward else transport.inverse_step
    fused = functools.partial(ours, dt=0.7, platform=platform, interpret=True)
    y, *gradients = with_gradients(fused)(g, u, v)
    assert y.shape == v.shape
    for a, b in zip([y, *gradients], with_gradients(functools.partial(reference, dt=0.7))(g, u, v)):
        np.testing.assert_allclose(a, b, atol=5e-5)


@PLATFORMS
def test_semi_lagrangian_step_in_3d(platform):
    u, v = draw((1, 4, 5, 6, 3), 2)
    y = inverse_step_pallas(3 * u, v, 0.7, platform=platform, interpret=True)
    np.testing.assert_allclose(y, transport.inverse_step(3 * u, v, 0.7), atol=1e-5)
    assert y.shape == v.shape


def test_kernels_lower_for_gpu_and_tpu():
    def both(platform, v, m):
        return ad_pallas(v, m, platform=platform), ad_star_pallas(v, m, platform=platform)

    assert gpu_kernels(functools.partial(both, "gpu"), FIELD, FIELD) == ["ad", "ad_star"]
    assert tpu_kernels(functools.partial(both, "tpu"), FIELD, FIELD) == 2

    def steps(platform, u, v):
        forward = forward_step_pallas(u, v, 0.1, platform=platform)
        return forward, inverse_step_pallas(u, v, 0.1, platform=platform)

    names = gpu_kernels(functools.partial(steps, "gpu"), LAST, LAST)
    assert names == ["characteristic", "follow", "inverse_step"]
    # The far gather of the forward step is XLA's.
    assert tpu_kernels(functools.partial(steps, "tpu"), LAST, LAST) == 2


def test_shooting_is_made_of_the_kernels(monkeypatch):
    """The door takes them for the target, and they give the plain form's numbers and gradient."""
    (start,) = draw((1, 8, 10, 2), 1)
    metric = SobolevMetric(alpha=4.0)

    def run(start, backend):
        settings = dict(steps=2, maps=("forward", "inverse"), gradient="stored")
        shot = shoot(20 * start, metric, start_is="momentum", backend=backend, **settings)
        return (shot.forward**2).sum() + (shot.inverse**2).sum()

    with target_platform("gpu"):
        names = gpu_kernels(functools.partial(run, backend="pallas"), start)
    assert set(names) == {"ad_star", "characteristic", "follow", "inverse_step"}
    for module, name in (
        (lie_algebra, "ad_star_pallas"),
        (transport, "forward_step_pallas"),
        (transport, "inverse_step_pallas"),
    ):
        fused = functools.partial(getattr(module, name), platform="gpu", interpret=True)
        monkeypatch.setattr(module, name, fused)
    ours, plain = (
        jax.jit(jax.value_and_grad(functools.partial(run, backend=b)))(start)
        for b in ("pallas", "xla")
    )
    assert abs(float(plain[0])) > 0.1
    np.testing.assert_allclose(ours[0], plain[0], rtol=1e-5)
    np.testing.assert_allclose(ours[1], plain[1], atol=1e-5 * np.abs(plain[1]).max())


@TOPOLOGIES
@pytest.mark.parametrize("space", [(48, 48, 48), (30, 34, 36), (90, 100)])
def test_kernels_compile_ahead_of_time_for_tpu(topology, space):
    def f(v, m, u):
        return (
            ad_pallas(v, m, platform="tpu"),
            ad_star_pallas(v, m, platform="tpu"),
            inverse_step_pallas(u, u, 0.1, platform="tpu"),
        )

    n = len(space)
    first, last = Shape((1, n, *space), jnp.float32), Shape((1, *space, n), jnp.float32)
    compiled = compile_for_tpu(f, topology, first, first, last)
    assert compiled.memory_analysis().output_size_in_bytes >= 12 * n * np.prod(space)


def test_bad_input_is_named():
    (v,) = draw((1, 2, 4, 4), 1)
    with pytest.raises(ValueError, match=r"\(1, 3, 4, 4\) must both be \[b, n, \*space\]"):
        ad_star_pallas(jnp.ones((1, 3, 4, 4)), jnp.ones((1, 3, 4, 4)), platform="gpu")
    with pytest.raises(ValueError, match=r"must both be \[b, \*space, n\]"):
        inverse_step_pallas(v, v, 0.1, platform="gpu")
    u = jnp.moveaxis(v, 1, -1)
    with pytest.raises(ValueError, match=r"'pallas' interpolates linearly: order 3 needs 'auto'"):
        transport.forward_step(u, u, 0.1, order=3, backend="pallas")
