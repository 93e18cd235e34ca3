"""The fused force and smoothing against the two one after the other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import ShapeDtypeStruct as Shape

from jaxmedgen.ops.invariant_metrics import GaussianMetric, SobolevMetric
from jaxmedgen.ops.smoothed_ad import smoothed_ad_star, smoothed_ad_star_pallas
from tests.ops.kernels.lowering import compile_for_tpu, gpu_kernels, tpu_kernels

PLATFORMS = pytest.mark.parametrize("platform", ["gpu", "tpu"])
METRIC = SobolevMetric(alpha=2.0, power=2, spacing=(1.0, 1.5, 0.8))


def draw(shape, count):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.uniform(-1, 1, size=shape), jnp.float32) for _ in range(count)]


@PLATFORMS
@pytest.mark.parametrize("space", [(16, 32), (3, 16, 16)], ids=str)
def test_values_and_gradients(platform, space):
    metric = METRIC if len(space) == 3 else GaussianMetric((2.0, 4.0))
    v, m, g = draw((2, len(space), *space), 3)
    fused = functools.partial(
        smoothed_ad_star_pallas, metric=metric, platform=platform, interpret=True
    )
    plain = functools.partial(smoothed_ad_star, metric=metric, backend="xla")

    @jax.jit
    def both(v, m, g):
        found = []
        for f in (fused, plain):
            y, back = jax.vjp(f, v, m)
            found.append((y, *back(g)))
        return found

    for a, b in zip(*both(v, m, g)):
        assert a.shape == v.shape
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_it_lowers_as_one_kernel_and_says_what_it_cannot_take():
    field = Shape((1, 3, 32, 32, 32), jnp.float32)
    call = functools.partial(smoothed_ad_star_pallas, metric=METRIC)
    assert gpu_kernels(functools.partial(call, platform="gpu"), field, field) == [
        "ad_star_coefficients"
    ]
    assert tpu_kernels(functools.partial(call, platform="tpu"), field, field) == 1
    odd = jnp.zeros((1, 2, 20, 16))
    with pytest.raises(ValueError, match="powers of two"):
        smoothed_ad_star_pallas(odd, odd, GaussianMetric((2.0,)), platform="gpu")
    with pytest.raises(ValueError, match="beta = 0"):
        smoothed_ad_star_pallas(odd, odd, SobolevMetric(beta=1.0), platform="tpu")


@pytest.mark.parametrize("topology", ["v5e:2x2", "v5p:2x2x1"])
def test_it_compiles_for_tpus(topology):
    field = Shape((1, 3, 64, 64, 64), jnp.float32)
    call = functools.partial(smoothed_ad_star_pallas, metric=METRIC, platform="tpu")
    assert compile_for_tpu(call, topology, field, field) is not None
