"""Layers every network is built from: convolution, normalisation, enlargement.

Parameters are float32; `dtype` is the precision of the arithmetic (None: that of the input).
Convolution kernels start from He's normal initialisation (He et al., ICCV 2015, eq. 14) for leaky
rectifiers of slope 0.01.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.ops.collectives import all_mean
from jaxmedgen.ops.conv import Backend, Padding, conv, conv_transpose
from jaxmedgen.ops.upsample import upsample

Dtype = Any
NormKind = Literal["instance", "batch", "group", "none"]
UpsampleMethod = Literal["conv", "nearest", "linear"]

SLOPE = 0.01
"""Negative slope of the leaky rectifiers."""

he_normal = jax.nn.initializers.variance_scaling(2.0 / (1.0 + SLOPE**2), "fan_in", "normal")


def leaky_relu(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Leaky rectifier of slope 0.01."""
    return jax.nn.leaky_relu(x, SLOPE)


class Conv(nn.Module):
    """Convolution, 2D or 3D after its input; see `ops.conv.conv`.

    Attributes:
        features: output channels.
        kernel_size: taps, one number or one an axis.
        stride: step, likewise.
        dilation: distance of the taps, likewise.
        padding: ``SAME``, ``VALID``, ``REFLECT``, ``CIRCULAR`` or ``EDGE``.
        groups: blocks of channels convolved apart.
        use_bias: whether a bias is added.
        dtype: precision of the arithmetic.
        kernel_init: initialiser of the kernel ``[*taps, ci / groups, co]``.
        backend: as `ops.conv.conv`.
    """

    features: int
    kernel_size: int | Sequence[int] = 3
    stride: int | Sequence[int] = 1
    dilation: int | Sequence[int] = 1
    padding: Padding = "SAME"
    groups: int = 1
    use_bias: bool = True
    dtype: Dtype = None
    kernel_init: jax.nn.initializers.Initializer = he_normal
    backend: Backend = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b *s c"]) -> Float[Array, "b *s2 k"]:
        """Images in, images out."""
        n = x.ndim - 2
        taps = (self.kernel_size,) * n if isinstance(self.kernel_size, int) else self.kernel_size
        shape = (*taps, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        dtype = self.dtype or x.dtype
        y = conv(
            x.astype(dtype),
            kernel.astype(dtype),
            stride=self.stride,
            dilation=self.dilation,
            padding=self.padding,
            groups=self.groups,
            backend=self.backend,
        )
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            y = y + bias.astype(dtype)
        return y


class ConvTranspose(nn.Module):
    """Transposed convolution, 2D or 3D after its input; see `ops.conv.conv_transpose`.

    Attributes:
        features: output channels.
        kernel_size: taps, one number or one an axis.
        stride: factor by which the axes grow, likewise.
        padding: ``SAME`` (output size ``s * stride``) or ``VALID``.
        use_bias: whether a bias is added.
        dtype: precision of the arithmetic.
        backend: as `ops.conv.conv`.
        kernel_init: initialiser of the kernel ``[*taps, ci, co]``; None is He's, for the taps that
            an output voxel sees.
    """

    features: int
    kernel_size: int | Sequence[int] = 4
    stride: int | Sequence[int] = 2
    padding: Padding = "SAME"
    use_bias: bool = True
    dtype: Dtype = None
    backend: Backend = "auto"
    kernel_init: jax.nn.initializers.Initializer | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b *s c"]) -> Float[Array, "b *s2 k"]:
        """Images in, larger images out."""
        n = x.ndim - 2
        taps, stride = (
            (v,) * n if isinstance(v, int) else tuple(v) for v in (self.kernel_size, self.stride)
        )
        return _transposed(self, x, taps, stride, self.padding, self.backend, self.kernel_init)


class Norm(nn.Module):
    """Normalisation, with a learned scale and bias unless told otherwise.

    Statistics are in float32 or wider.

    ``instance``: over the space of each sample and channel (Ulyanov et al., 2016). ``group``: over
    space and blocks of channels (Wu & He, 2018). ``batch``: over the global batch and space, with
    running means in ``batch_stats`` for ``train=False`` (Ioffe & Szegedy, 2015). ``none``: the
    input, untouched.

    Attributes:
        kind: which of them.
        groups: blocks of channels of ``group``.
        momentum: weight of the old running mean of ``batch``.
        epsilon: added to the variance.
        dtype: precision of the output.
        affine: whether there are a scale and a bias.
    """

    kind: NormKind = "instance"
    groups: int = 8
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Dtype = None
    affine: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "b *s c"], train: bool = True) -> Float[Array, "b *s c"]:
        """Normalised images; `train` matters to ``batch`` only."""
        if self.kind == "none":
            return x
        c = x.shape[-1]
        scale, bias = 1.0, 0.0
        if self.affine:
            scale = self.param("scale", nn.initializers.ones, (c,), jnp.float32)
            bias = self.param("bias", nn.initializers.zeros, (c,), jnp.float32)
        values = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if self.kind == "batch":
            mean, var = self._batch_statistics(values, train)
        elif self.kind == "instance":
            mean, var = _moments(values, tuple(range(1, x.ndim - 1)))
        else:
            if c % self.groups:
                raise ValueError(
                    f"Norm: {c} channels do not divide into groups={self.groups}; "
                    "choose a divisor of the channels"
                )
            blocks = values.reshape(*x.shape[:-1], self.groups, c // self.groups)
            mean, var = _moments(blocks, (*range(1, x.ndim - 1), x.ndim))
            per_channel = (*mean.shape[:-2], self.groups, c // self.groups)
            mean, var = (
                jnp.broadcast_to(m, per_channel).reshape(*m.shape[:-2], c) for m in (mean, var)
            )
        # One multiply-add a voxel: the small arrays are combined first.
        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        return ((values - mean) * factor + bias).astype(self.dtype or x.dtype)

    def _batch_statistics(self, x, train):
        shape = x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        if not train:
            return running_mean.value, running_var.value
        axes = tuple(range(x.ndim - 1))
        mean = all_mean(x.mean(axes))
        var = all_mean(jnp.square(x - mean).mean(axes))
        if self.is_initializing():
            return mean, var
        for running, new in ((running_mean, mean), (running_var, var)):
            running.value = self.momentum * running.value + (1 - self.momentum) * new
        return mean, var


class Upsample(nn.Module):
    """Enlarges images by whole factors and sets their channels.

    Attributes:
        features: output channels.
        factor: one number or one an axis.
        method: ``conv``: transposed convolution as wide as its stride; ``nearest``, ``linear``:
            a pointwise convolution at the coarse resolution, then interpolation.
        use_bias: whether a bias is added.
        dtype: precision of the arithmetic.
    """

    features: int
    factor: int | Sequence[int] = 2
    method: UpsampleMethod = "conv"
    use_bias: bool = False
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: Float[Array, "b *s c"]) -> Float[Array, "b *s2 k"]:
        """Images in, larger images out."""
        n = x.ndim - 2
        factor = (self.factor,) * n if isinstance(self.factor, int) else tuple(self.factor)
        if self.method != "conv":
            x = Conv(self.features, 1, use_bias=self.use_bias, dtype=self.dtype)(x)
            return upsample(x, factor, self.method)
        return _transposed(self, x, factor, factor, "SAME")


def _transposed(layer, x, taps, stride, padding, backend="auto", init=None):
    """Transposed convolution with the parameters of `layer`."""
    shape = (*taps, x.shape[-1], layer.features)
    # Of the taps an output voxel sees one in prod(stride): the fan-in is that much smaller.
    he = jax.nn.initializers.variance_scaling(
        math.prod(stride) * 2.0 / (1.0 + SLOPE**2), "fan_in", "normal"
    )
    kernel = layer.param("kernel", init or he, shape, jnp.float32)
    dtype = layer.dtype or x.dtype
    x, kernel = x.astype(dtype), kernel.astype(dtype)
    y = conv_transpose(x, kernel, stride=stride, padding=padding, backend=backend)
    if layer.use_bias:
        bias = layer.param("bias", nn.initializers.zeros, (layer.features,), jnp.float32)
        y = y + bias.astype(dtype)
    return y


def _moments(x, axes):
    mean = x.mean(axes, keepdims=True)
    return mean, jnp.square(x - mean).mean(axes, keepdims=True)
