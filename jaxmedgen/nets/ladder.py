"""Variational autoencoders of shapes with one latent vector or a ladder of them.

Upwards, deterministic: features ``h_0, h_1, ...`` of the shape, each with a Gaussian of its level.
Downwards, stochastic: the topmost vector, then each level's prior ``p(z_l | z_{l+1})``, which is
merged with the level's Gaussian by their precisions (Sonderby et al., "Ladder variational
autoencoders", 2016; layer widths of Biffi et al., IEEE TMI 39(6), 2020). The decoder sees ``z_0``
alone. With one level it is a plain VAE (Biffi et al., MICCAI 2018).

Levels are named ``z0`` (lowest), ``z1``, ...; mappings list the topmost first.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from jaxmedgen.nets.gaussian_heads import GaussianHead, merge_gaussians
from jaxmedgen.nets.layers import Dtype
from jaxmedgen.nets.shape_trunk import DenseNorm, ShapeDecoder, ShapeEncoder, Upsampling
from jaxmedgen.nets.variational import sample_gaussian
from jaxmedgen.types import Leaf

Merge = Literal["precision", "concatenate", "compat_ref"]


@struct.dataclass
class LadderOutputs:
    """What the model makes of shapes; mappings by level, topmost first.

    Attributes:
        posteriors: mean and log-variance ``[b, d]``.
        priors: likewise, given the drawn vector of the level above.
        latents: drawn vectors ``[b, d]``.
        logits: of the decoded shapes ``[b, *s, c]``, or None where they were not asked for.
    """

    posteriors: dict[str, Leaf]
    priors: dict[str, Leaf]
    latents: dict[str, Leaf]
    logits: Leaf


class Prior(nn.Module):
    """Gaussian of a level given the vector of the level above: two dense layers, then a head.

    Attributes:
        size: dimensions of the level.
        hidden: width of the dense layers.
        momentum: of the running statistics.
        deviation: of the initial weights, 0 for He's.
    """

    size: int
    hidden: int
    momentum: float | int = 0.9
    deviation: float | int = 0.0

    @nn.compact
    def __call__(
        self, above: Float[Array, " b k"], train: bool
    ) -> tuple[Float[Array, " b d"], Float[Array, " b d"], Float[Array, " b h"]]:
        """Mean, log-variance, and the features that they were read off."""
        x = above
        for _ in range(2):
            x = DenseNorm(self.hidden, momentum=self.momentum, deviation=self.deviation)(x, train)
        return *GaussianHead(self.size, self.deviation)(x), x


class LadderVAE(nn.Module):
    """A VAE of shapes with one or more latent levels.

    Attributes:
        shape: of the shapes, two or three axes.
        channels: of the shapes.
        latents: dimensions of the levels, lowest first.
        hidden: width of the deterministic features of each level.
        top: width of a further tanh layer below the topmost level; 0 for none.
        merge: ``precision``: the ladder; ``concatenate``: a plain hierarchy, whose posterior is
            read off the features of both directions; ``compat_ref``: as the authors' program has
            it, the ladder's merged variance taken for a standard deviation, in draws and in the KL.
        features: channels of the convolutions.
        squeeze: channels of the encoder's last convolution.
        upsampling: of the decoder.
        momentum: of the running statistics.
        deviation: of the initial weights, 0 for He's.
        dtype: precision of the convolutions.
    """

    shape: Sequence[int]
    channels: int = 2
    latents: Sequence[int] = (64, 32, 2)
    hidden: Sequence[int] = (96, 48, 24)
    top: int = 12
    merge: Merge = "precision"
    features: Sequence[int] = (8, 16, 32, 64)
    squeeze: int = 2
    upsampling: Upsampling = "transposed"
    momentum: float | int = 0.9
    deviation: float | int = 0.0
    dtype: Dtype = None

    def setup(self) -> None:
        """Trunk, heads and priors.

        Raises:
            ValueError: not one width a level.
        """
        if len(self.latents) != len(self.hidden):
            raise ValueError(
                f"LadderVAE: latents={tuple(self.latents)} but hidden={tuple(self.hidden)}: give "
                "one width a level"
            )
        common = {"momentum": self.momentum, "deviation": self.deviation}
        convolutional = {**common, "features": tuple(self.features), "dtype": self.dtype}
        self.encoder = ShapeEncoder(squeeze=self.squeeze, **convolutional)
        self.decoder = ShapeDecoder(
            tuple(self.shape), self.channels, upsampling=self.upsampling, **convolutional
        )
        self.upward = [DenseNorm(width, jax.nn.elu, **common) for width in self.hidden]
        self.highest = DenseNorm(self.top, jnp.tanh, **common) if self.top else None
        self.heads = [GaussianHead(size, self.deviation) for size in self.latents]
        below = zip(self.latents[:-1], self.hidden[:-1])
        self.downward = [Prior(size, width, **common) for size, width in below]

    @property
    def levels(self) -> dict[str, int]:
        """Dimensions by level, topmost first."""
        return {f"z{k}": self.latents[k] for k in reversed(range(len(self.latents)))}

    def __call__(
        self,
        image: Float[Array, " b *s c"],
        noise: Mapping[str, Array],
        train: bool,
        decode: bool = True,
    ) -> LadderOutputs:
        """Posteriors, priors and decoded draws.

        Args:
            image: shapes.
            noise: standard normal ``[b, d]`` by level; 0 for means.
            train: batch statistics of the batch.
            decode: whether shapes are wanted.
        """
        features, x = [], self.encoder(image, train)
        for layer in self.upward:
            x = layer(x, train)
            features.append(x)
        posteriors, priors, latents, above = {}, {}, {}, None
        for k in reversed(range(len(self.latents))):
            name = f"z{k}"
            if above is None:
                x = features[k] if self.highest is None else self.highest(features[k], train)
                posterior = self.heads[k](x)
                prior = tuple(jnp.zeros_like(p) for p in posterior)
            else:
                *prior, context = self.downward[k](above, train)
                if self.merge == "concatenate":
                    posterior = self.heads[k](jnp.concatenate([features[k], context], -1))
                else:
                    posterior = merge_gaussians(*self.heads[k](features[k]), *prior)
                if self.merge == "compat_ref":
                    posterior = posterior[0], 2 * posterior[1]
            above = sample_gaussian(noise[name], *posterior)
            posteriors[name], priors[name], latents[name] = posterior, tuple(prior), above
        logits = self.decoder(above, train) if decode else None
        return LadderOutputs(posteriors, priors, latents, logits)

    def generate(
        self, noise: Mapping[str, Array], given: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """Latent vectors from above: given ones stay, the others are draws of their priors.

        With the posterior means of some of the levels and no noise this is the level-truncated
        representation: priors are those given the levels above.

        Args:
            noise: standard normal ``[b, d]`` by level; 0 for prior means.
            given: vectors that are known, by level.
        """
        given, latents, above = given or {}, {}, None
        for k in reversed(range(len(self.latents))):
            name = f"z{k}"
            if name in given:
                above = given[name]
            elif above is None:
                above = noise[name]
            else:
                mean, log_variance, _ = self.downward[k](above, False)
                above = sample_gaussian(noise[name], mean, log_variance)
            latents[name] = above
        return latents

    def decode(self, z: Float[Array, " b d"]) -> Float[Array, " b *s c"]:
        """Logits of vectors of the lowest level, running statistics."""
        return self.decoder(z, False)


class ShapePredictor(nn.Module):
    """Class scores of a latent vector: a dense layer with batch norm and rectifier, a linear one.

    Attributes:
        classes: of the shapes.
        hidden: width of the dense layer.
        momentum: of the running statistics.
        deviation: of the initial weights, 0 for He's and LeCun's.
    """

    classes: int = 2
    hidden: int = 64
    momentum: float | int = 0.9
    deviation: float | int = 0.0

    @nn.compact
    def __call__(self, z: Float[Array, " b d"], train: bool) -> Float[Array, " b k"]:
        """Scores before the softmax."""
        init = nn.initializers.normal(self.deviation) if self.deviation else None
        x = DenseNorm(self.hidden, momentum=self.momentum, deviation=self.deviation)(z, train)
        return nn.Dense(self.classes, kernel_init=init or nn.initializers.lecun_normal())(x)
