"""Networks of a VAE with a learned Riemannian metric: encoder, metric, decoder.

MLP (one hidden layer each) or convolutions of four taps and stride 2 for larger images; 2D or 3D.
The metric's network gives a lower triangular factor L of each sample's matrix, its diagonal
positive.

Source: Chadebec & Allassonniere, "Data augmentation with variational autoencoders and manifold
sampling", 2021, and its code (widths); Chadebec, Mantoux & Allassonniere, 2020 (the factor).
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.nets.gaussian_heads import Gaussian, GaussianHead
from jaxmedgen.nets.layers import Conv, ConvTranspose

LOG_DIAGONAL = 5.0
"""Largest absolute logarithm of a factor's diagonal."""
_SMALL = nn.initializers.variance_scaling(1e-2, "fan_in", "truncated_normal")


class Trunk(nn.Module):
    """Images to vectors: strided convolutions, if any, and one dense layer, rectified.

    Attributes:
        hidden: length of the vector.
        features: channels of the convolutions, each of which halves the axes.
    """

    hidden: int
    features: Sequence[int] = ()

    @nn.compact
    def __call__(self, x: Float[Array, " b *s c"]) -> Float[Array, " b k"]:
        """A vector an image."""
        for width in self.features:
            x = nn.relu(Conv(width, 4, stride=2)(x))
        return nn.relu(nn.Dense(self.hidden)(x.reshape(x.shape[0], -1)))


class MetricVae(nn.Module):
    """Encoder, metric network and decoder.

    Attributes:
        shape: of the images, space alone.
        outputs: channels of the decoder's output.
        latents: dimensions of the latent space.
        hidden: width of the dense layers.
        features: channels of convolutions; none is an MLP.
        metric: whether there is a metric network.
    """

    shape: Sequence[int]
    outputs: int
    latents: int
    hidden: int = 400
    features: Sequence[int] = ()
    metric: bool = True

    def setup(self) -> None:
        """Layers."""
        self.encoder = Trunk(self.hidden, self.features)
        self.head = GaussianHead(self.latents)
        self.decoder_in = nn.Dense(self.hidden)
        if self.features:
            self.coarse = tuple(-(-n // 2 ** len(self.features)) for n in self.shape)
            self.decoder_out = nn.Dense(math.prod(self.coarse) * self.features[-1])
            widths = (*reversed(self.features[:-1]), self.outputs)
            self.growing = [ConvTranspose(w, 4, stride=2, padding="SAME") for w in widths]
        else:
            self.decoder_out = nn.Dense(math.prod(self.shape) * self.outputs)
        if self.metric:
            self.metric_trunk = Trunk(self.hidden, self.features)
            self.log_diagonal = nn.Dense(self.latents, kernel_init=_SMALL)
            self.below = nn.Dense(self.latents * (self.latents - 1) // 2, kernel_init=_SMALL)

    def __call__(self, x: Float[Array, " b *s c"]) -> Float[Array, " b *s k"]:
        """Everything once, which makes the parameters."""
        mean, _ = self.encode(x)
        if self.metric:
            self.factors(x)
        return self.decode(mean)

    def encode(self, x: Float[Array, " b *s c"]) -> Gaussian:
        """Mean and log-variance of the posterior."""
        return self.head(self.encoder(x))

    def factors(self, x: Float[Array, " b *s c"]) -> Float[Array, " b d d"]:
        """Lower triangular factors L, the logarithm of their diagonal within `LOG_DIAGONAL`."""
        features = self.metric_trunk(x)
        diagonal = jnp.exp(jnp.clip(self.log_diagonal(features), -LOG_DIAGONAL, LOG_DIAGONAL))
        factor = diagonal[:, :, None] * jnp.eye(self.latents)
        if self.latents > 1:
            rows, columns = jnp.tril_indices(self.latents, -1)
            factor = factor.at[:, rows, columns].set(self.below(features))
        return factor

    def decode(self, z: Float[Array, " b d"]) -> Float[Array, " b *s k"]:
        """Logits or means of the images of latent vectors."""
        x = self.decoder_out(nn.relu(self.decoder_in(z)))
        if not self.features:
            return x.reshape(z.shape[0], *self.shape, self.outputs)
        x = nn.relu(x).reshape(z.shape[0], *self.coarse, self.features[-1])
        for number, layer in enumerate(self.growing):
            x = layer(x if number == 0 else jax.nn.relu(x))
        return x[(slice(None), *(slice(n) for n in self.shape))]
