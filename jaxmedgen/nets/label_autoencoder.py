"""Encoder and decoder of label maps: one-hot maps to a short vector and back.

``conv``: stages of a strided and two further convolutions, each with batch norm and leaky
rectifier; a linear bottleneck (two dense layers without activation); linear enlargement with
aligned corners in the decoder. The layers and widths of the reference implementation of Amirrajab
et al., MELBA 2023:010 (sinaamirrajab/CardiacPathologySynthesis).

``residual``: a pre-activation residual block (He et al., ECCV 2016) in place of the two further
convolutions, enlargement by repetition. Slices and volumes alike.
"""

import math
from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.nets.layers import Conv, Dtype, Norm, leaky_relu
from jaxmedgen.ops.resize import resize_corners
from jaxmedgen.ops.upsample import upsample

Kind = Literal["conv", "residual"]


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, leaky rectifier.

    Attributes:
        features: output channels.
        stride: of the convolution.
        activate: whether the rectifier follows.
        dtype: precision of the arithmetic.
    """

    features: int
    stride: int = 1
    activate: bool = True
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: Float[Array, " b *s c"], train: bool) -> Float[Array, " b *s2 k"]:
        """Images in, images out."""
        x = Conv(self.features, stride=self.stride, use_bias=False, dtype=self.dtype)(x)
        x = Norm("batch", dtype=self.dtype)(x, train)
        return leaky_relu(x) if self.activate else x


class PreActivation(nn.Module):
    """``x + conv(act(norm(conv(act(norm(x))))))``.

    Attributes:
        features: channels, as many as the input has.
        dtype: precision of the arithmetic.
    """

    features: int
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: Float[Array, " b *s c"], train: bool) -> Float[Array, " b *s c"]:
        """Images in, images of the same shape out."""
        y = x
        for _ in range(2):
            y = leaky_relu(Norm("batch", dtype=self.dtype)(y, train))
            y = Conv(self.features, use_bias=False, dtype=self.dtype)(y)
        return x + y


class LabelEncoder(nn.Module):
    """Posterior of the latent vector of a one-hot label map.

    Attributes:
        latents: dimensions of the vector.
        features: channels of the stages, each of which halves every axis.
        neck: width of the dense layers.
        kind: of the stages.
        dtype: precision of the convolutions; the posterior is float32.
    """

    latents: int
    features: Sequence[int]
    neck: int = 256
    kind: Kind = "conv"
    dtype: Dtype = None

    @nn.compact
    def __call__(
        self, x: Float[Array, " b *s k"], train: bool
    ) -> tuple[Float[Array, " b d"], Float[Array, " b d"]]:
        """Mean and log-variance."""
        for width in self.features:
            if self.kind == "conv":
                for stride in (2, 1, 1):
                    x = ConvNorm(width, stride, dtype=self.dtype)(x, train)
            else:
                x = Conv(width, stride=2, use_bias=False, dtype=self.dtype)(x)
                x = PreActivation(width, dtype=self.dtype)(x, train)
        if self.kind == "residual":
            x = leaky_relu(Norm("batch", dtype=self.dtype)(x, train))
        x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        for _ in range(2):
            x = nn.Dense(self.neck)(x)
        return nn.Dense(self.latents)(x), nn.Dense(self.latents)(x)


class LabelDecoder(nn.Module):
    """Class scores of a label map from a latent vector.

    Attributes:
        shape: of the label map; every axis a multiple of two to the number of stages.
        classes: channels of the scores.
        features: channels of the stages, as the encoder has them.
        neck: width of the dense layers.
        kind: of the stages.
        dtype: precision of the convolutions; the scores are float32.
    """

    shape: Sequence[int]
    classes: int
    features: Sequence[int]
    neck: int = 256
    kind: Kind = "conv"
    dtype: Dtype = None

    @nn.compact
    def __call__(self, z: Float[Array, " b d"], train: bool) -> Float[Array, " b *s k"]:
        """Scores before the softmax.

        Raises:
            ValueError: a shape that the stages do not divide.
        """
        factor = 2 ** len(self.features)
        if any(n % factor for n in self.shape):
            raise ValueError(
                f"label maps of shape {tuple(self.shape)} with {len(self.features)} stages: every "
                f"axis must be a multiple of {factor}; set data.shape"
            )
        start = (*(n // factor for n in self.shape), self.features[-1])
        for width in (self.neck, self.neck, math.prod(start)):
            z = nn.Dense(width)(z)
        x = z.reshape(-1, *start)
        if self.dtype is not None:
            x = x.astype(self.dtype)
        widths = list(self.features)
        for width, after in zip(reversed(widths), [*reversed(widths[:-1]), widths[0]]):
            if self.kind == "conv":
                x = resize_corners(x, [2 * n for n in x.shape[1:-1]])
                for features in (width, after):
                    x = ConvNorm(features, dtype=self.dtype)(x, train)
            else:
                x = Conv(after, 1, use_bias=False, dtype=self.dtype)(x)
                x = PreActivation(after, dtype=self.dtype)(upsample(x, 2), train)
        if self.kind == "residual":
            x = leaky_relu(Norm("batch", dtype=self.dtype)(x, train))
        x = ConvNorm(max(widths[0] // 2, 1), activate=False, dtype=self.dtype)(x, train)
        return Conv(self.classes, dtype=self.dtype)(x).astype(jnp.float32)


class LabelAutoencoder(nn.Module):
    """Both halves.

    Parameters with ``shape=(128, 128)``, ``classes=4``, ``latents=16`` and the default widths:
    29,518,820, most of them in the two dense layers at 8 x 8 x 512.

    Attributes:
        shape: of the label maps, two or three axes.
        classes: label values.
        latents: dimensions of the latent vector.
        features: channels of the stages.
        neck: width of the bottleneck.
        kind: ``conv`` or ``residual``.
        dtype: precision of the convolutions.
    """

    shape: Sequence[int]
    classes: int
    latents: int = 16
    features: Sequence[int] = (64, 128, 256, 512)
    neck: int = 256
    kind: Kind = "conv"
    dtype: Dtype = None

    def setup(self) -> None:
        """Encoder and decoder of the same widths."""
        settings = {
            "features": tuple(self.features),
            "neck": self.neck,
            "kind": self.kind,
            "dtype": self.dtype,
        }
        self.encoder = LabelEncoder(self.latents, **settings)
        self.decoder = LabelDecoder(tuple(self.shape), self.classes, **settings)

    def __call__(
        self, onehot: Float[Array, " b *s k"], noise: Float[Array, " b d"], train: bool
    ) -> tuple[Float[Array, " b *s k"], Float[Array, " b d"], Float[Array, " b d"]]:
        """Scores of a draw of the posterior, its mean and log-variance.

        Args:
            onehot: label maps, a channel a class.
            noise: standard normal, or 0 for the mean.
            train: batch statistics of the batch.
        """
        mean, log_variance = self.encoder(onehot, train)
        scores = self.decoder(mean + jnp.exp(0.5 * log_variance) * noise, train)
        return scores, mean, log_variance

    def encode(
        self, onehot: Float[Array, " b *s k"]
    ) -> tuple[Float[Array, " b d"], Float[Array, " b d"]]:
        """Mean and log-variance, running statistics."""
        return self.encoder(onehot, False)

    def decode(self, z: Float[Array, " b d"]) -> Float[Array, " b *s k"]:
        """Scores, running statistics."""
        return self.decoder(z, False)
