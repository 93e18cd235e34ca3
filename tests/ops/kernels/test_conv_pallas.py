import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import ShapeDtypeStruct as Shape

from jaxmedgen.ops.conv import conv
from jaxmedgen.ops.kernels.conv_pallas import conv3d_pallas, conv3d_reference, normalisation
from jaxmedgen.ops.kernels.platform import target_platform
from tests.ops.kernels.lowering import compile_for_tpu, gpu_kernels, tpu_kernels

PLATFORMS = pytest.mark.parametrize("platform", ["gpu", "tpu"])
FUSED = dict(slope=0.1, statistics=True, precision="highest")


def draw(space, ci, co, taps=(3, 3, 3), dtype=jnp.float32):
    """Image, kernel, bias, scale and shift of two samples."""
    rng = np.random.default_rng(0)
    shapes = (2, *space, ci), (*taps, ci, co), (co,), (2, ci), (2, ci)
    x, kernel, *rest = [jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes]
    return x.astype(dtype), kernel.astype(dtype), *rest


@PLATFORMS
@pytest.mark.parametrize(
    ("space", "ci", "co", "taps"),
    # More voxels than a block of the GPU's; channels that fill no block; several tiles of width.
    [((5, 6, 7), 8, 8, (3, 3, 3)), ((3, 4, 18), 3, 20, (3, 1, 5))],
)
def test_fused_convolution_agrees_with_xla(platform, space, ci, co, taps):
    x, kernel, bias, scale, shift = draw(space, ci, co, taps)
    arguments = dict(scale=scale, shift=shift, **FUSED)
    y, moments = conv3d_pallas(x, kernel, bias, **arguments, platform=platform, interpret=True)
    expected, expected_moments = conv3d_reference(x, kernel, bias, **arguments)
    np.testing.assert_allclose(y, expected, atol=5e-5)
    for ours, reference in zip(moments, expected_moments):
        np.testing.assert_allclose(ours, reference, rtol=1e-5, atol=1e-5)
    assert y.shape == (2, *space, co)


@PLATFORMS
def test_chain_of_layers_is_convolution_normalisation_activation_convolution(platform):
    x, kernel, bias, _, _ = draw((4, 5, 6), 4, 4)
    x = x + 1000.0  # moments of large numbers: sums of squares would lose them
    run = functools.partial(conv3d_pallas, platform=platform, interpret=True, precision="highest")
    y, moments = run(x, kernel, bias, statistics=True)
    scale, shift = normalisation(moments, 1.5, 0.25)
    out = run(y, kernel, scale=scale, shift=shift, slope=0.01)

    wide = np.asarray(conv3d_reference(x, kernel, bias, precision="highest"), np.float64)
    centred = wide - wide.mean((1, 2, 3), keepdims=True)
    normal = 1.5 * centred / np.sqrt(wide.var((1, 2, 3), keepdims=True) + 1e-5) + 0.25
    active = jnp.asarray(np.where(normal > 0, normal, 0.01 * normal), jnp.float32)
    expected = conv3d_reference(active, kernel, precision="highest")
    assert float(jnp.abs(out - expected).max()) < 2e-2 * float(jnp.abs(expected).max())


@PLATFORMS
def test_gradients_agree_with_xla(platform):
    arrays = draw((3, 4, 5), 3, 4)

    def loss(convolve, *arrays):
        x, kernel, bias, scale, shift = arrays
        y, (mean, variance) = convolve(x, kernel, bias, scale=scale, shift=shift, **FUSED)
        return jnp.sum(jnp.sin(y)) + jnp.sum(mean**2) + jnp.sum(jnp.sqrt(variance))

    ours = functools.partial(conv3d_pallas, platform=platform, interpret=True)
    every = tuple(range(5))
    gradients = jax.jit(jax.grad(functools.partial(loss, ours), every))(*arrays)
    expected = jax.jit(jax.grad(functools.partial(loss, conv3d_reference), every))(*arrays)
    for a, b in zip(gradients, expected):
        np.testing.assert_allclose(a, b, atol=1e-4 * float(jnp.abs(b).max()))
    assert len(gradients) == len(arrays)


def test_gradient_of_a_gradient_penalty_agrees_with_xla():
    x, kernel, *_ = draw((3, 4, 3), 2, 3)

    def penalty(convolve, kernel):
        def score(x):
            return jnp.sum(jnp.tanh(convolve(x, kernel, precision="highest")))

        return jnp.sum(jax.grad(score)(x) ** 2)

    ours = functools.partial(conv3d_pallas, platform="gpu", interpret=True)
    gradient = jax.jit(jax.grad(functools.partial(penalty, ours)))(kernel)
    expected = jax.jit(jax.grad(functools.partial(penalty, conv3d_reference)))(kernel)
    assert float(jnp.abs(gradient - expected).max()) < 1e-4 * float(jnp.abs(expected).max())


@PLATFORMS
def test_bfloat16_is_summed_in_float32(platform):
    x, kernel, *_ = draw((3, 4, 5), 16, 16, dtype=jnp.bfloat16)
    y = conv3d_pallas(x, kernel, platform=platform, interpret=True)
    exact = conv3d_reference(x.astype(jnp.float32), kernel.astype(jnp.float32))
    assert y.dtype == jnp.bfloat16
    # Only the result is rounded, by half a unit in its last place of 8 bits.
    assert float(jnp.max(jnp.abs(y - exact) / jnp.maximum(jnp.abs(exact), 1.0))) < 2**-8


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_kernels_lower_for_gpu_and_tpu(dtype):
    x, kernel = Shape((2, 24, 24, 24, 8), dtype), Shape((3, 3, 3, 8, 16), dtype)
    bias, scale = Shape((16,), jnp.float32), Shape((2, 8), jnp.float32)

    def loss(platform, x, kernel, bias, scale):
        y, moments = conv3d_pallas(
            x, kernel, bias, scale=scale, shift=scale, **FUSED, platform=platform
        )
        return jnp.sum(y.astype(jnp.float32) ** 2) + jnp.sum(moments[1])

    for platform, count in ("gpu", lambda *a: len(gpu_kernels(*a))), ("tpu", tpu_kernels):
        run = functools.partial(loss, platform)
        assert count(run, x, kernel, bias, scale) == 1
        assert count(jax.grad(run, (0, 1)), x, kernel, bias, scale) == 2


@pytest.mark.parametrize("topology", ["v5e:2x2", "v5p:2x2x1"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_kernel_compiles_ahead_of_time_for_tpu(topology, dtype):
    def f(x, kernel, bias, scale):
        arguments = dict(scale=scale, shift=scale, slope=0.1, statistics=True)
        return conv3d_pallas(x, kernel, bias, **arguments, platform="tpu")

    for channels in (8, 32):
        shapes = (2, 48, 48, 48, channels), (3, 3, 3, channels, channels)
        x, kernel = (Shape(s, dtype) for s in shapes)
        rest = Shape((channels,), jnp.float32), Shape((2, channels), jnp.float32)
        compiled = compile_for_tpu(f, topology, x, kernel, *rest)
        assert compiled.memory_analysis().output_size_in_bytes > 2 * 48**3 * channels


def test_bad_input_is_named():
    x, kernel, _, scale, _ = draw((3, 3, 3), 2, 4)
    with pytest.raises(ValueError, match=r"does not fit the 2 channels"):
        conv3d_pallas(x, kernel[:, :, :, :1], platform="gpu")
    with pytest.raises(ValueError, match=r"\(2, 3, 3\) must be odd"):
        conv3d_pallas(x, kernel[:2], platform="gpu")
    with pytest.raises(ValueError, match="scale and shift together"):
        conv3d_pallas(x, kernel, scale=scale, platform="gpu")
    with pytest.raises(ValueError, match=r"slope=0\.1 needs"):
        conv3d_pallas(x, kernel, slope=0.1, platform="gpu")
    with pytest.raises(ValueError, match="'cpu' has no Pallas kernels"):
        conv3d_pallas(x, kernel)


def test_the_door_runs_the_kernel_where_asked():
    x, kernel, *_ = draw((4, 4, 4), 8, 8)
    with target_platform("gpu"):
        ours = functools.partial(conv, backend="pallas")
        assert gpu_kernels(ours, x, kernel) == ["conv3d"]
        assert gpu_kernels(conv, x, kernel) == []
        with pytest.raises(ValueError, match=r"not taps \(3, 3, 3\), stride \(2, 2, 2\)"):
            conv(x, kernel, stride=2, backend="pallas")
    with pytest.raises(ValueError, match="'cpu' has no Pallas kernels"):
        conv(x, kernel, backend="pallas")
