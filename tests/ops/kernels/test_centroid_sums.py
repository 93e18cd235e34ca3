"""The fused pass over centroids against plain XLA, its derivatives and its lowering."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import ShapeDtypeStruct as Shape

from jaxmedgen.ops import riemannian_metric as rm
from jaxmedgen.ops.kernels.centroid_sums import centroid_sums_pallas
from jaxmedgen.ops.kernels.pallas_support import with_reference_derivative
from tests.ops.kernels.lowering import compile_for_tpu, gpu_kernels, tpu_kernels
from tests.ops.test_riemannian_metric import draw

PLATFORMS = pytest.mark.parametrize("platform", ["gpu", "tpu"])


@PLATFORMS
def test_values_and_gradients(platform):
    """More centroids than one tile, points that do not fill theirs, far-away fillers."""
    centroids, factors, z = (jnp.asarray(x, jnp.float32) for x in draw(n=150, d=3, b=5))
    centroids = centroids.at[-2:].set(rm.NOWHERE)
    weights = jnp.einsum("bi,bj->bij", z, z) + jnp.eye(3)
    fused = functools.partial(centroid_sums_pallas, platform=platform, interpret=True)
    fused = with_reference_derivative(fused, rm._sums)

    @jax.jit
    def both(*arrays):
        products = rm.metric_of_factors(arrays[2], factors, 0.8, 1e-3).products
        arrays = (*arrays, products, jnp.float32(0.8))
        found = []
        for f in (fused, rm._sums):
            out, back = jax.vjp(f, *arrays)
            found.append((*out, *back(out)))
        return found

    for a, b in zip(*both(z, weights, centroids)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * float(np.abs(b).max()))


def test_it_lowers_as_one_kernel_and_says_what_it_cannot_take():
    d, b, n = 10, 100, 500
    shapes = [(b, d), (b, d, d), (n, d), (n, d, d), ()]
    arguments = [Shape(s, jnp.float32) for s in shapes]
    call = centroid_sums_pallas
    assert gpu_kernels(functools.partial(call, platform="gpu"), *arguments) == ["centroid_sums"]
    assert tpu_kernels(functools.partial(call, platform="tpu"), *arguments) == 1
    wide = [jnp.zeros(s) for s in ((2, 20), (2, 20, 20), (3, 20), (3, 20, 20), ())]
    with pytest.raises(ValueError, match="20 dimensions"):
        centroid_sums_pallas(*wide, platform="gpu")
    with pytest.raises(ValueError, match="no Pallas kernels"):
        centroid_sums_pallas(*(jnp.zeros(s.shape) for s in arguments))


@pytest.mark.parametrize("topology", ["v5e:2x2", "v5p:2x2x1"])
def test_it_compiles_for_tpus(topology):
    shapes = [(4096, 10), (4096, 10, 10), (500, 10), (500, 10, 10), ()]
    call = functools.partial(centroid_sums_pallas, platform="tpu")
    arguments = [Shape(s, jnp.float32) for s in shapes]
    assert compile_for_tpu(call, topology, *arguments) is not None
