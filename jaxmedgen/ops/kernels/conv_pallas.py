"""3D convolution for few channels at full resolution, fused with its neighbours in a network.

One kernel computes ``conv(leaky_relu(scale * x + shift)) + bias`` and the mean and variance of each
sample and channel of its output. So a chain of convolution, instance normalisation and activation
passes over memory once a convolution: the moments that one layer returns give the `scale` and
`shift` of the next (`normalisation`). At 8 to 32 channels these passes, not arithmetic, cost time.

The kernels are `conv_pallas_gpu` (Triton) and `conv_pallas_tpu` (Mosaic). Moments are computed a
block at a time about the block's own mean and merged by Chan, Golub & LeVeque, "Updating formulae
and a pairwise algorithm for computing sample variances", 1979: no atomic operations, no
cancellation.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxmedgen.ops.kernels.conv_pallas_gpu import conv3d_gpu
from jaxmedgen.ops.kernels.conv_pallas_tpu import conv3d_tpu
from jaxmedgen.ops.kernels.pallas_support import Platform, check_addresses, kernel_platform

Moments = tuple[Float[Array, "b co"], Float[Array, "b co"]]


@dataclasses.dataclass(frozen=True)
class _Setting:
    slope: float | int
    statistics: bool
    precision: Any
    platform: Platform
    interpret: bool


def conv3d_pallas(
    x: Float[Array, "b d h w ci"],
    kernel: Float[Array, "kd kh kw ci_k co"],
    bias: Float[Array, " co"] | None = None,
    *,
    scale: Float[Array, "b ci"] | None = None,
    shift: Float[Array, "b ci"] | None = None,
    slope: float | int = 1.0,
    statistics: bool = False,
    precision: Any = None,
    platform: Platform | None = None,
    interpret: bool = False,
) -> Float[Array, "b d h w co"] | tuple[Float[Array, "b d h w co"], Moments]:
    """Convolution with zero padding to the same size, stride 1, odd kernel.

    Differentiable in reverse mode any number of times. The gradient to the input is this kernel
    with flipped weights, the gradient to the kernel XLA's.

    Args:
        x: volumes, float32 or bfloat16; sums are float32.
        kernel: weights.
        bias: added to every voxel.
        scale: factor an input channel and sample, applied before the convolution; with `shift`.
        shift: added after `scale`. The zero padding is outside: it is not shifted.
        slope: slope of the leaky ReLU that follows `scale` and `shift`; 1 is no activation.
        statistics: also return mean and (biased) variance over space of the output, before it is
            rounded to its dtype.
        precision: as in `lax.conv_general_dilated`: by default GPUs multiply float32 as TF32.
        platform: "gpu" or "tpu"; the default device's by default.
        interpret: run the kernel as plain operations, on any machine. Slow, for tests.

    Returns:
        Volumes in the dtype of `x`; with `statistics` also ``(mean, variance)``.

    Raises:
        ValueError: shapes do not fit, the kernel is even, or the platform has no kernel.
    """
    if x.shape[-1] != kernel.shape[-2]:
        raise ValueError(
            f"conv3d_pallas: kernel {kernel.shape} does not fit the {x.shape[-1]} channels of the "
            "image; its axis -2 must have that size"
        )
    if not all(k % 2 for k in kernel.shape[:3]):
        raise ValueError(f"conv3d_pallas: kernel {kernel.shape[:3]} must be odd on every axis")
    if (scale is None) != (shift is None):
        raise ValueError("conv3d_pallas: give scale and shift together, or neither")
    if scale is None and slope != 1:
        raise ValueError(f"conv3d_pallas: slope={slope} needs scale and shift (ones and zeros)")
    check_addresses(x)
    setting = _Setting(slope, statistics, precision, kernel_platform(platform), interpret)
    y, moments = _conv(setting, x, kernel.astype(x.dtype), bias, scale, shift)
    return (y, moments) if statistics else y


def conv_pallas(
    x: Float[Array, "b *s ci"],
    kernel: Float[Array, "*k ci_g co"],
    strides: tuple[int, ...],
    pads: tuple[tuple[int, int], ...],
    dilations: tuple[int, ...],
    groups: int,
    platform: str,
) -> Float[Array, "b *s2 co"]:
    """The door's call of `conv3d_pallas`: `ops.conv.conv` with ``backend="pallas"``.

    Raises:
        ValueError: settings or a platform for which there is no kernel.
    """
    odd = tuple((k // 2, k // 2) for k in kernel.shape[:-2] if k % 2)
    plain = (1,) * 3
    if (groups, strides, dilations, pads) != (1, plain, plain, odd) or x.ndim != 5:
        raise ValueError(
            f"conv: backend='pallas' has 3D convolution with odd taps, stride 1 and padding 'SAME' "
            f"only, not taps {kernel.shape[:-2]}, stride {strides}, dilation {dilations}, "
            f"groups {groups}, padding {pads}; use backend='auto'"
        )
    return conv3d_pallas(x, kernel, platform=kernel_platform(platform))


def conv3d_reference(
    x: Float[Array, "b d h w ci"],
    kernel: Float[Array, "kd kh kw ci_k co"],
    bias: Float[Array, " co"] | None = None,
    *,
    scale: Float[Array, "b ci"] | None = None,
    shift: Float[Array, "b ci"] | None = None,
    slope: float | int = 1.0,
    statistics: bool = False,
    precision: Any = None,
) -> Float[Array, "b d h w co"] | tuple[Float[Array, "b d h w co"], Moments]:
    """`conv3d_pallas` in plain XLA; arguments as there."""
    a = _activate(x, scale, shift, slope)
    sums = _sum_dtype(x)
    y = _xla(a.astype(sums), kernel.astype(x.dtype).astype(sums), precision)
    if bias is not None:
        y = y + bias.astype(sums)
    moments = (jnp.mean(y, (1, 2, 3)), jnp.var(y, (1, 2, 3))) if statistics else None
    y = y.astype(x.dtype)
    return (y, moments) if statistics else y


def normalisation(
    moments: Moments,
    gain: Float[Array, " c"] | float | int = 1.0,
    offset: Float[Array, " c"] | float | int = 0.0,
    *,
    epsilon: float = 1e-5,
) -> tuple[Float[Array, "b c"], Float[Array, "b c"]]:
    """``(scale, shift)`` that make instance normalisation of a layer with these moments."""
    mean, variance = moments
    scale = gain * lax.rsqrt(variance + epsilon)
    return scale, offset - mean * scale


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _conv(setting, x, kernel, bias, scale, shift):
    run = conv3d_gpu if setting.platform == "gpu" else conv3d_tpu
    y, blocks = run(
        x,
        kernel,
        bias,
        scale,
        shift,
        slope=setting.slope,
        statistics=setting.statistics,
        precision=setting.precision,
        interpret=setting.interpret,
    )
    return y, (_merge(*blocks) if blocks is not None else None)


def _forward(setting, x, kernel, bias, scale, shift):
    y, moments = _conv(setting, x, kernel, bias, scale, shift)
    kept = (y, moments[0]) if setting.statistics else (None, None)
    return (y, moments), (x, kernel, bias, scale, shift, *kept)


def _backward(setting, saved, cotangents):
    x, kernel, bias, scale, shift, y, mean = saved
    g, moments = cotangents
    if setting.statistics:
        g_mean, g_variance = (m[:, None, None, None, :] for m in moments)
        deviation = y.astype(mean.dtype) - mean[:, None, None, None, :]
        count = x.shape[1] * x.shape[2] * x.shape[3]
        g = (g + (g_mean + 2 * g_variance * deviation) / count).astype(x.dtype)
    flipped = jnp.swapaxes(jnp.flip(kernel, (0, 1, 2)), -1, -2)
    plain = dataclasses.replace(setting, statistics=False, slope=1.0)
    g_a, _ = _conv(plain, g, flipped, None, None, None)
    activate = functools.partial(_activate, slope=setting.slope)
    a, back = jax.vjp(activate, x, scale, shift)
    g_x, g_scale, g_shift = back(g_a)
    (g_kernel,) = jax.vjp(lambda k: _xla(a, k, setting.precision), kernel)[1](g)
    g_bias = None
    if bias is not None:
        g_bias = jnp.sum(g.astype(_sum_dtype(g)), (0, 1, 2, 3)).astype(bias.dtype)
    return g_x, g_kernel, g_bias, g_scale, g_shift


_conv.defvjp(_forward, _backward)


def _activate(x, scale, shift, slope):
    """``leaky_relu(scale * x + shift)``, rounded to the dtype of `x`."""
    if scale is None:
        return x
    a = x.astype(_sum_dtype(x)) * scale[:, None, None, None, :] + shift[:, None, None, None, :]
    return jnp.where(a >= 0, a, slope * a).astype(x.dtype)


def _sum_dtype(x):
    return jnp.promote_types(x.dtype, jnp.float32)


def _xla(x, kernel, precision):
    return lax.conv_general_dilated(
        x,
        kernel,
        (1, 1, 1),
        "SAME",
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
        precision=precision,
    )


def _merge(counts, mean, squares):
    """Mean and variance of the union of blocks.

    Args:
        counts: voxels of each block ``[blocks, 1]``.
        mean: of each block ``[b, blocks, co]``.
        squares: sums of squared deviations from the block's mean, likewise.
    """
    total = jnp.sum(counts)
    overall = jnp.sum(counts * mean, 1) / total
    spread = jnp.sum(squares + counts * (mean - overall[:, None]) ** 2, 1)
    return overall, spread / total
