"""Strided encoders of planes or volumes to vectors, and a decoder of vectors to volumes.

Encoder: convolutions of three taps and stride two, each with normalisation and ELU, flattened,
one dense layer. Decoder: dense layers to a coarse grid, then linear doubling, convolution of three
taps, normalisation, ELU. 2D or 3D after the data.
"""

import math
from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.nets.layers import Conv, ConvTranspose, Dtype, Norm, he_normal
from jaxmedgen.ops.upsample import upsample

NormChoice = Literal["batch", "group"]
Head = Literal["conv", "phases"]


def norm_elu(
    x: Float[Array, " b *s c"], kind: NormChoice, train: bool, dtype: Dtype
) -> Float[Array, " b *s c"]:
    """Normalisation (groups of at most 8 channels) and ELU; call inside a compact module."""
    groups = math.gcd(8, x.shape[-1])
    return jax.nn.elu(Norm(kind, groups=groups, dtype=dtype)(x, train))


class StridedEncoder(nn.Module):
    """Images to vectors.

    Attributes:
        features: channels of the convolutions, each of which halves every axis.
        outputs: length of the vector.
        norm: ``batch``, or ``group`` for small batches.
        dtype: precision of the convolutions; the vector is float32.
    """

    features: Sequence[int]
    outputs: int
    norm: NormChoice = "batch"
    dtype: Dtype = None

    @nn.compact
    def __call__(self, image: Float[Array, " b *s c"], train: bool) -> Float[Array, " b k"]:
        """The vector after an ELU."""
        x = image
        for width in self.features:
            x = Conv(width, stride=2, use_bias=False, dtype=self.dtype)(x)
            x = norm_elu(x, self.norm, train, self.dtype)
        x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        return jax.nn.elu(nn.Dense(self.outputs, kernel_init=he_normal)(x))


class VolumeDecoder(nn.Module):
    """Vectors to logits of one channel.

    Attributes:
        shape: of the volume; every axis a multiple of two to the number of doublings.
        features: channels of the coarse grid and after each doubling.
        hidden: width of the dense layer before the coarse grid.
        head: ``conv``: a pointwise convolution; ``phases``: one more doubling, whose 2^n voxels
            are channels of one convolution of three taps, so that the finest level costs next to
            nothing.
        norm: ``batch``, or ``group`` for small batches.
        dtype: precision of the convolutions; the logits are float32.
    """

    shape: Sequence[int]
    features: Sequence[int] = (128, 128, 64, 32, 16, 8)
    hidden: int = 256
    head: Head = "conv"
    norm: NormChoice = "batch"
    dtype: Dtype = None

    @nn.compact
    def __call__(self, z: Float[Array, " b d"], train: bool) -> Float[Array, " b *s"]:
        """Logits.

        Raises:
            ValueError: a shape that the doublings do not reach.
        """
        first, *rest = self.features
        factor = 2 ** (len(rest) + (self.head == "phases"))
        if any(size % factor for size in self.shape):
            raise ValueError(
                f"VolumeDecoder: shape {tuple(self.shape)} is no multiple of {factor}: change the "
                "shape or the number of features"
            )
        start = tuple(size // factor for size in self.shape)
        x = jax.nn.elu(nn.Dense(self.hidden, kernel_init=he_normal)(z))
        x = nn.Dense(math.prod(start) * first, kernel_init=he_normal)(x)
        x = jax.nn.elu(x).reshape(z.shape[0], *start, first)
        for width in rest:
            x = Conv(width, use_bias=False, dtype=self.dtype)(upsample(x, 2, "linear"))
            x = norm_elu(x, self.norm, train, self.dtype)
        if self.head == "conv":
            x = Conv(1, 1, dtype=self.dtype)(x)
        else:
            # Six taps of stride two: each of the 2^n phases sees three taps of the coarse grid.
            x = ConvTranspose(1, 6, stride=2, dtype=self.dtype)(x)
        return x[..., 0].astype(jnp.float32)
