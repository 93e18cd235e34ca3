"""Encoders to Gaussian posteriors and decoders to images: the two halves of a VAE.

Trunks (`MLPEncoder`, `ConvEncoder`) turn images into vectors; `GaussianEncoder` makes a posterior
of one or two of them. Decoders (`MLPDecoder`, `ConvDecoder`, `UpsamplingDecoder`) turn vectors into
images. 2D or 3D after the data.

Source of the layer widths: the reference implementation of Detlefsen & Hauberg, "Explicit
disentanglement of appearance and perspective in generative models", 2019 (SkafteNicki/unsuper).
"""

import math
from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.nets.layers import Conv, ConvTranspose, Norm

Pool = Literal["flatten", "mean"]

LEAST_DEVIATION = 1e-4
"""Lower limit of a posterior's standard deviation."""


def sample_gaussian(
    noise: Float[Array, " *s"], mean: Float[Array, " *s"], log_variance: Float[Array, " *s"]
) -> Float[Array, " *s"]:
    """``mean + exp(log_variance / 2) noise``: a draw through which gradients pass."""
    return mean + jnp.exp(0.5 * log_variance) * noise


class MLPEncoder(nn.Module):
    """Batch norm of the flat image, then leaky rectified layers, then a linear one.

    Attributes:
        outputs: length of the vector.
        features: widths of the hidden layers.
        slope: of the rectifiers for negative values.
        normalise: whether the flat image is batch-normalised first.
    """

    outputs: int
    features: Sequence[int] = (512, 256)
    slope: float = 0.01
    normalise: bool = True

    @nn.compact
    def __call__(self, image: Float[Array, " b *s c"], train: bool) -> Float[Array, " b k"]:
        """Images (or vectors) to vectors."""
        x = image.reshape(image.shape[0], -1)
        if self.normalise:
            x = Norm("batch")(x, train)
        for width in self.features:
            x = jax.nn.leaky_relu(nn.Dense(width)(x), self.slope)
        return nn.Dense(self.outputs)(x)


class ConvEncoder(nn.Module):
    """Strided convolutions of three taps, then a linear layer.

    The defaults are the reference implementation's for 28^2: batch norm of the image, 28 -> 14 ->
    7, flattened. For volumes: ``features=(16, 32, 64, 128, 128)``, ``strides=(2, 2, 2, 2, 2)``,
    ``norm="instance"``, ``pool="mean"``, ``slope=0.2``, ``normalise=False``.

    Attributes:
        outputs: length of the vector.
        features: channels of the convolutions.
        strides: of the convolutions, one each.
        norm: kind of normalisation after each of them.
        pool: how the last feature map becomes a vector.
        slope: of the rectifiers for negative values.
        normalise: whether the image is batch-normalised first, a statistic a channel.
    """

    outputs: int
    features: Sequence[int] = (64, 64, 64)
    strides: Sequence[int] = (2, 2, 1)
    norm: Literal["instance", "none"] = "none"
    pool: Pool = "flatten"
    slope: float = 0.1
    normalise: bool = True

    @nn.compact
    def __call__(self, image: Float[Array, " b *s c"], train: bool) -> Float[Array, " b k"]:
        """Images to vectors.

        Raises:
            ValueError: not one stride a convolution.
        """
        if len(self.features) != len(self.strides):
            raise ValueError(
                f"ConvEncoder: {len(self.features)} features but {len(self.strides)} strides: "
                "give one of each a convolution"
            )
        x = Norm("batch")(image, train) if self.normalise else image
        for width, stride in zip(self.features, self.strides):
            x = Norm(self.norm)(Conv(width, 3, stride=stride)(x), train)
            x = jax.nn.leaky_relu(x, self.slope)
        if self.pool == "mean":
            x = x.mean(tuple(range(1, x.ndim - 1)))
        return nn.Dense(self.outputs)(x.reshape(x.shape[0], -1))


class GaussianEncoder(nn.Module):
    """Posterior of a latent vector: its mean and the softplus of its variance, from two trunks.

    Attributes:
        mean: trunk for the mean.
        variance: trunk for the variance, with as many outputs; None takes the second half of the
            outputs of `mean`, which then needs two outputs a dimension.
    """

    mean: nn.Module
    variance: nn.Module | None

    def __call__(
        self, image: Float[Array, " b *s c"], train: bool
    ) -> tuple[Float[Array, " b d"], Float[Array, " b d"]]:
        """Mean and log-variance of the posterior of each image."""
        if self.variance is None:
            mean, raw = jnp.split(self.mean(image, train), 2, axis=-1)
        else:
            mean, raw = self.mean(image, train), self.variance(image, train)
        return mean, jnp.log(jax.nn.softplus(raw) + LEAST_DEVIATION**2)


class MLPDecoder(nn.Module):
    """Leaky rectified layers, then a linear one of the output's shape.

    Attributes:
        shape: of the output, channels included; ``(k,)`` for a vector.
        features: widths of the hidden layers.
        slope: of the rectifiers for negative values.
        zero: whether the last layer starts at zero, and with it the output.
    """

    shape: Sequence[int]
    features: Sequence[int] = (256, 512)
    slope: float = 0.01
    zero: bool = False

    @nn.compact
    def __call__(self, z: Float[Array, " b d"]) -> Float[Array, " b *o"]:
        """Vectors to arrays of `shape`."""
        for width in self.features:
            z = jax.nn.leaky_relu(nn.Dense(width)(z), self.slope)
        init = nn.initializers.zeros if self.zero else nn.initializers.lecun_normal()
        z = nn.Dense(math.prod(self.shape), kernel_init=init)(z)
        return z.reshape(z.shape[0], *self.shape)


class ConvDecoder(nn.Module):
    """The reference implementation's: a 7^2 map, transposed convolutions to 25^2, a linear layer.

    Attributes:
        shape: of the output, channels included.
        width: channels of the three transposed convolutions (strides 1, 2, 2).
        slope: of the rectifiers for negative values.
    """

    shape: Sequence[int]
    width: int = 64
    slope: float = 0.1

    @nn.compact
    def __call__(self, z: Float[Array, " b d"]) -> Float[Array, " b *o"]:
        """Vectors to images of `shape`."""
        start = tuple(max(size // 4, 1) for size in self.shape[:-1])
        x = nn.Dense(math.prod(start))(z).reshape(z.shape[0], *start, 1)
        for stride in (1, 2, 2):
            x = ConvTranspose(self.width, 3, stride=stride, padding="SAME")(x)
            # Without padding of the output, (n - 1) stride + 1 voxels are left: 7 -> 13 -> 25.
            inner = (slice(None, size - stride + 1) for size in x.shape[1:-1])
            x = jax.nn.leaky_relu(x[(slice(None), *inner)], self.slope)
        x = nn.Dense(math.prod(self.shape))(x.reshape(x.shape[0], -1))
        return x.reshape(x.shape[0], *self.shape)


class UpsamplingDecoder(nn.Module):
    """A coarse map, doubled by repetition and convolved until it has the output's size.

    Attributes:
        shape: of the output, channels included; other sizes than multiples of ``2^levels`` are cut
            from the next larger one.
        features: channels of the coarse map and after each doubling.
        slope: of the rectifiers for negative values.
    """

    shape: Sequence[int]
    features: Sequence[int] = (128, 128, 64, 32, 16)
    slope: float = 0.2

    @nn.compact
    def __call__(self, z: Float[Array, " b d"]) -> Float[Array, " b *o"]:
        """Vectors to images of `shape`."""
        first, *rest = self.features
        start = tuple(-(-size // 2 ** len(rest)) for size in self.shape[:-1])
        x = nn.Dense(math.prod(start) * first)(z).reshape(z.shape[0], *start, first)
        x = jax.nn.leaky_relu(x, self.slope)
        for width in rest:
            for axis in range(1, x.ndim - 1):
                x = jnp.repeat(x, 2, axis)
            x = jax.nn.leaky_relu(Norm("instance")(Conv(width)(x)), self.slope)
        before = [(size - wanted) // 2 for size, wanted in zip(x.shape[1:-1], self.shape[:-1])]
        inner = (slice(low, low + n) for low, n in zip(before, self.shape[:-1]))
        return Conv(self.shape[-1])(x[(slice(None), *inner)])
