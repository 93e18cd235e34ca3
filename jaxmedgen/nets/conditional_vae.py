"""A small VAE of images or masks, 2D or 3D, with or without conditions.

    encoder q(z|x, y): convolutions of stride 2, a dense layer, [features, y] -> mean, log-variance
    decoder p(x|z, y): [z, y] -> dense layers, doublings by repetition and convolutions -> output
    prior   p(z|y): N(0, I), or learned from y

``mlp``: dense layers instead; ``linear``: affine maps, a free posterior variance that no image
changes, and one learned deviation of the output: the model that becomes probabilistic PCA. ELU
throughout. Sources: Kingma & Welling, 2014; Doersch, "Tutorial on variational autoencoders", 2016;
Sohn, Lee & Yan, 2015.
"""

import math
from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.nets.gaussian_heads import (
    ConditionEmbed,
    Gaussian,
    GaussianHead,
    LearnedPrior,
    bounded_log_variance,
)
from jaxmedgen.nets.layers import Conv, Dtype
from jaxmedgen.nets.variational import sample_gaussian
from jaxmedgen.ops.upsample import upsample

Architecture = Literal["conv", "mlp", "linear"]
Prior = Literal["standard", "learned"]
Conditions = tuple[Array, ...]


class Features(nn.Module):
    """An image as a vector of features.

    Attributes:
        architecture: of the layers.
        widths: channels of the convolutions, each of stride 2, or units of the dense layers.
        neck: units of the dense layer after the convolutions.
        dtype: precision of the convolutions.
    """

    architecture: Architecture
    widths: Sequence[int]
    neck: int
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: Float[Array, " b *s c"]) -> Float[Array, " b k"]:
        """Images (or vectors) to vectors."""
        if self.architecture == "conv":
            for width in self.widths:
                x = jax.nn.elu(Conv(width, 3, stride=2, dtype=self.dtype)(x))
        x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        dense = {"conv": (self.neck,), "mlp": tuple(self.widths), "linear": ()}
        for width in dense[self.architecture]:
            x = jax.nn.elu(nn.Dense(width)(x))
        return x


class Image(nn.Module):
    """A vector as an image: logits or a mean.

    Attributes:
        shape: of the image, channels included; other sizes than multiples of ``2^levels`` are cut
            from the next larger one.
        architecture: of the layers.
        widths: as those of `Features`; used backwards.
        neck: units of the first dense layer.
        dtype: precision of the convolutions; the output is float32.
    """

    shape: Sequence[int]
    architecture: Architecture
    widths: Sequence[int]
    neck: int
    dtype: Dtype = None

    @nn.compact
    def __call__(self, z: Float[Array, " b d"]) -> Float[Array, " b *s c"]:
        """Vectors to images of `shape`."""
        *space, channels = self.shape
        if self.architecture != "conv":
            for width in reversed(self.widths) if self.architecture == "mlp" else ():
                z = jax.nn.elu(nn.Dense(width)(z))
            return nn.Dense(math.prod(self.shape))(z).reshape(z.shape[0], *self.shape)
        widths = list(self.widths)
        start = [-(-size // 2 ** len(widths)) for size in space]
        x = jax.nn.elu(nn.Dense(self.neck)(z))
        x = jax.nn.elu(nn.Dense(math.prod(start) * widths[-1])(x))
        x = x.reshape(z.shape[0], *start, widths[-1])
        for width in [*reversed(widths[:-1]), widths[0]]:
            x = jax.nn.elu(Conv(width, dtype=self.dtype)(upsample(x, 2, "nearest")))
        before = [(size - wanted) // 2 for size, wanted in zip(x.shape[1:-1], space)]
        inner = (slice(low, low + size) for low, size in zip(before, space))
        return Conv(channels, dtype=self.dtype)(x[(slice(None), *inner)]).astype(jnp.float32)


class ConditionalVae(nn.Module):
    """Encoder, decoder and prior.

    Attributes:
        shape: of the data, channels included.
        latents: dimensions of the latent vector.
        architecture: ``conv``, ``mlp`` or ``linear``.
        widths: of the encoder, see `Features`.
        neck: units of the dense layers beside the latent vector of ``conv``.
        conditions: one embedding a condition; none for an unconditional model.
        encoder_sees: whether the encoder sees the conditions too; the decoder always does.
        prior: ``standard`` or ``learned`` from the conditions.
        prior_hidden: units of the learned prior's dense layer.
        gaussian: whether the encoder gives a log-variance; without it is an autoencoder's.
        learned_deviation: whether there is a parameter ``log_deviation``, that of the output.
        dtype: precision of the convolutions.
    """

    shape: Sequence[int]
    latents: int = 16
    architecture: Architecture = "conv"
    widths: Sequence[int] = (32, 64, 64)
    neck: int = 128
    conditions: Sequence[ConditionEmbed] = ()
    encoder_sees: bool = True
    prior: Prior = "standard"
    prior_hidden: int = 128
    gaussian: bool = True
    learned_deviation: bool = False
    dtype: Dtype = None

    def setup(self) -> None:
        """The parts."""
        layers = (self.architecture, tuple(self.widths), self.neck, self.dtype)
        self.features = Features(*layers)
        self.image = Image(tuple(self.shape), *layers)
        self.linear = self.architecture == "linear"
        if self.gaussian and not self.linear:
            self.head = GaussianHead(self.latents)
        else:
            self.mean = nn.Dense(self.latents)
        if self.linear:
            self.log_variance = self.param("log_variance", nn.initializers.zeros, (self.latents,))
        if self.prior == "learned":
            self.prior_net = LearnedPrior(self.latents, (self.prior_hidden,))
        if self.learned_deviation:
            self.log_deviation = self.param("log_deviation", nn.initializers.zeros, ())

    def __call__(
        self, x: Float[Array, " b *s c"], noise: Float[Array, " b d"], conditions: Conditions = ()
    ) -> tuple[Float[Array, " b *s c"], Gaussian, Gaussian]:
        """Output of a draw of the posterior, the posterior, and the prior.

        Args:
            x: images.
            noise: standard normal; 0 for the mean.
            conditions: one array each, as `ConditionEmbed` takes them.
        """
        given = self._embed(conditions, x.shape[0])
        posterior = self._posterior(x, given)
        z = sample_gaussian(noise, *posterior)
        return self._decode(z, given), posterior, self._prior(given)

    def encode(self, x: Float[Array, " b *s c"], conditions: Conditions = ()) -> Gaussian:
        """Mean and log-variance of ``q(z|x, y)``."""
        return self._posterior(x, self._embed(conditions, x.shape[0]))

    def decode(
        self, z: Float[Array, " b d"], conditions: Conditions = ()
    ) -> Float[Array, " b *s c"]:
        """Logits or means of ``p(x|z, y)``."""
        return self._decode(z, self._embed(conditions, z.shape[0]))

    def prior_given(self, batch: int, conditions: Conditions = ()) -> Gaussian:
        """Mean and log-variance of ``p(z|y)``.

        Args:
            batch: number of samples.
            conditions: as for `__call__`.
        """
        return self._prior(self._embed(conditions, batch))

    def _embed(self, conditions, batch):
        if len(conditions) != len(self.conditions):
            raise ValueError(
                f"{len(conditions)} conditions for a model of {len(self.conditions)}: give one each"
            )
        vectors = [embed(y) for embed, y in zip(self.conditions, conditions)]
        return jnp.concatenate([jnp.zeros((batch, 0)), *vectors], -1)

    def _posterior(self, x, given):
        features = self.features(x)
        if self.encoder_sees:
            features = jnp.concatenate([features, given], -1)
        if self.gaussian and not self.linear:
            return self.head(features)
        mean = self.mean(features)
        if not self.linear:
            return mean, jnp.zeros_like(mean)
        return mean, jnp.broadcast_to(bounded_log_variance(self.log_variance), mean.shape)

    def _decode(self, z, given):
        return self.image(jnp.concatenate([z, given], -1))

    def _prior(self, given):
        if self.prior == "learned":
            return self.prior_net(given)
        zeros = jnp.zeros((given.shape[0], self.latents))
        return zeros, zeros
