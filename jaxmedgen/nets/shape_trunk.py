"""Convolutional encoder and decoder of binary shapes, a channel a phase or organ.

The tables of Biffi et al., "Explainable anatomical shape analysis through deep hierarchical
generative models", IEEE TMI 39(6), 2020 (UK-Digital-Heart-Project/lvae_mlp): strided convolutions
8-16-32-64 with batch norm and rectifiers, a convolution to two channels, and back. 2D or 3D.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.nets.layers import Conv, ConvTranspose, Dtype, Norm, he_normal

Upsampling = Literal["transposed", "shuffle"]
Activation = Callable[[jax.Array], jax.Array]


def kernel_initialiser(deviation: float | int) -> jax.nn.initializers.Initializer:
    """Truncated normal of a fixed standard deviation, or He's initialisation where it is 0."""
    return jax.nn.initializers.truncated_normal(deviation) if deviation else he_normal


def linear_interpolation(
    key: jax.Array, shape: Sequence[int], dtype: Dtype = jnp.float32
) -> Float[Array, "..."]:
    """Kernel ``[*taps, ci, co]`` that enlarges channel i to channel i by linear interpolation.

    Taps fall off linearly from the middle (1/2, 1, 1/2 for three); other channels start at 0.
    """
    del key
    *taps, inputs, outputs = shape
    kernel = jnp.ones(())
    for size in taps:
        middle = (size - 1) / 2
        weights = 1 - jnp.abs(jnp.arange(size) - middle) / ((size + 1) / 2)
        kernel = kernel[..., None] * weights
    return (kernel[..., None, None] * jnp.eye(inputs, outputs)).astype(dtype)


class DenseNorm(nn.Module):
    """Dense layer, batch norm, activation.

    Attributes:
        features: outputs.
        activation: after the normalisation.
        momentum: of the running statistics.
        deviation: of the initial weights, 0 for He's.
    """

    features: int
    activation: Activation = jax.nn.relu
    momentum: float | int = 0.9
    deviation: float | int = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, " b k"], train: bool) -> Float[Array, " b d"]:
        """Vectors in, vectors out, float32."""
        init = jax.nn.initializers.normal(self.deviation) if self.deviation else he_normal
        x = nn.Dense(self.features, use_bias=False, kernel_init=init)(x.astype(jnp.float32))
        return self.activation(Norm("batch", momentum=self.momentum)(x, train))


class ShapeEncoder(nn.Module):
    """A shape to a flat feature vector.

    Attributes:
        features: channels of the stages, each of which halves every axis.
        squeeze: channels of the last convolution.
        momentum: of the running statistics.
        deviation: of the initial kernels, 0 for He's.
        dtype: precision of the convolutions.
    """

    features: Sequence[int] = (8, 16, 32, 64)
    squeeze: int = 2
    momentum: float | int = 0.9
    deviation: float | int = 0.0
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: Float[Array, " b *s c"], train: bool) -> Float[Array, " b k"]:
        """Masks (or probabilities) to vectors."""
        init = kernel_initialiser(self.deviation)
        for width, stride in (*((f, 2) for f in self.features), (self.squeeze, 1)):
            x = Conv(width, stride=stride, use_bias=False, dtype=self.dtype, kernel_init=init)(x)
            x = jax.nn.relu(Norm("batch", momentum=self.momentum, dtype=self.dtype)(x, train))
        return x.reshape(x.shape[0], -1).astype(jnp.float32)


class ShapeDecoder(nn.Module):
    """Logits of a shape from a latent vector.

    Attributes:
        shape: of the result, every axis a multiple of two to the number of stages.
        channels: of the result.
        features: as the encoder has them.
        upsampling: ``transposed``: transposed convolutions of three taps that start as linear
            interpolation; ``shuffle``: a convolution at the coarse resolution whose channels become
            the finer voxels.
        momentum: of the running statistics.
        deviation: of the initial kernels, 0 for He's.
        dtype: precision of the convolutions.
    """

    shape: Sequence[int]
    channels: int = 2
    features: Sequence[int] = (8, 16, 32, 64)
    upsampling: Upsampling = "transposed"
    momentum: float | int = 0.9
    deviation: float | int = 0.0
    dtype: Dtype = None

    @nn.compact
    def __call__(self, z: Float[Array, " b d"], train: bool) -> Float[Array, " b *s c"]:
        """Logits, float32.

        Raises:
            ValueError: a shape that the stages do not divide.
        """
        factor = 2 ** len(self.features)
        if any(n % factor for n in self.shape):
            raise ValueError(
                f"shapes of {tuple(self.shape)} voxels with {len(self.features)} stages: every "
                f"axis must be a multiple of {factor}; set data.shape"
            )
        init = kernel_initialiser(self.deviation)
        start = tuple(n // factor for n in self.shape)
        x = DenseNorm(math.prod(start), momentum=self.momentum, deviation=self.deviation)(z, train)
        x = x.reshape(-1, *start, 1)
        if self.dtype is not None:
            x = x.astype(self.dtype)

        def layer(x, width):
            x = Conv(width, use_bias=False, dtype=self.dtype, kernel_init=init)(x)
            return self._activate(x, train)

        x = layer(x, self.features[-1])
        for width in reversed(self.features):
            if self.upsampling == "shuffle":
                cells = 2 ** len(self.shape)
                x = Conv(cells * width, use_bias=False, dtype=self.dtype, kernel_init=init)(x)
                x = self._activate(depth_to_space(x), train)
            else:
                x = ConvTranspose(
                    width, 3, use_bias=False, dtype=self.dtype, kernel_init=linear_interpolation
                )(x)
                x = self._activate(x, train)
        x = layer(x, max(self.features[0] // 2, 1))
        return Conv(self.channels, dtype=self.dtype, kernel_init=init)(x).astype(jnp.float32)

    def _activate(self, x, train):
        return jax.nn.relu(Norm("batch", momentum=self.momentum, dtype=self.dtype)(x, train))


def depth_to_space(x: Float[Array, " b *s k"]) -> Float[Array, " b *s2 c"]:
    """Blocks of 2^n channels become the 2^n voxels of a grid twice as fine (Shi et al., 2016).

    Channel ``(i0, ..., c)`` of a voxel goes to channel c of its corner ``(i0, ...)``.
    """
    batch, *space, channels = x.shape
    n = len(space)
    x = x.reshape(batch, *space, *(2,) * n, channels // 2**n)
    order = itertools.chain.from_iterable((1 + d, 1 + n + d) for d in range(n))
    x = x.transpose(0, *order, 1 + 2 * n)
    return x.reshape(batch, *(2 * s for s in space), channels // 2**n)
