"""Networks that build a volume from a few planes: conditional VAEs, TL-Net, a conditional GAN.

Widths and depths: chosen, as the paper's tables are not public (Cerrolaza et al., MICCAI 2018).
TL-Net: Girdhar, Fouhey, Rodriguez & Gupta, "Learning a predictable and generative vector
representation for objects", ECCV 2016, with the same encoders and decoder as the others.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.nets.hierarchical_latent import HierarchicalLatent, LevelGaussian
from jaxmedgen.nets.layers import Conv, Dtype, he_normal
from jaxmedgen.nets.plane_encoders import PlaneEncoders
from jaxmedgen.nets.volume_coding import StridedEncoder, VolumeDecoder

SLOPE = 0.2


class Reconstructed(NamedTuple):
    """What a conditional VAE makes of a training sample.

    Attributes:
        logits: of the volume.
        partial: logits decoded from the first levels alone, where there is deep supervision.
        posteriors: by level.
        priors: by level.
    """

    logits: Float[Array, " b *s"]
    partial: tuple[Float[Array, " b *s"], ...]
    posteriors: tuple[LevelGaussian, ...]
    priors: tuple[LevelGaussian, ...]


class PlanesToVolume(nn.Module):
    """Conditional VAE with one latent level or several, each with the planes that it may see.

    Attributes:
        planes: encoders of the planes.
        volume: encoder of the volume, for the posterior alone.
        latent: levels.
        decoder: to the volume.
        levels: for each level the views of its context, in order; the decoder sees the last.
        deep: whether the levels before the last have a decoder each, for training.
    """

    planes: PlaneEncoders
    volume: StridedEncoder
    latent: HierarchicalLatent
    decoder: VolumeDecoder
    levels: Sequence[Sequence[int]]
    deep: bool = False

    def setup(self) -> None:
        """Decoders of the levels before the last."""
        count = len(self.levels) - 1 if self.deep else 0
        self.partial_decoders = [self.decoder.clone(parent=None) for _ in range(count)]

    def __call__(
        self,
        planes: Float[Array, " b *p v"],
        available: Float[Array, " b v"],
        volume: Float[Array, " b *s"],
        noise: Float[Array, " b d"],
        train: bool,
    ) -> Reconstructed:
        """Reconstruction through the posteriors."""
        contexts = self._contexts(planes, available, train)
        features = self.volume(volume[..., None], train)
        z, posteriors, priors = self.latent(contexts, noise, features)
        partial, width = [], 0
        for level, decoder in enumerate(self.partial_decoders):
            width += self.latent.sizes[level]
            partial.append(decoder(jnp.concatenate([z[:, :width], contexts[level]], -1), train))
        logits = self.decoder(jnp.concatenate([z, contexts[-1]], -1), train)
        return Reconstructed(logits, tuple(partial), posteriors, priors)

    def generate(
        self,
        planes: Float[Array, " b *p v"],
        available: Float[Array, " b v"],
        noise: Float[Array, " b d"],
    ) -> Float[Array, " b *s"]:
        """Logits through the priors; noise 0 takes their means."""
        return self.decode(planes, available, self.draw(planes, available, noise))

    def draw(
        self,
        planes: Float[Array, " b *p v"],
        available: Float[Array, " b v"],
        noise: Float[Array, " b d"],
    ) -> Float[Array, " b d"]:
        """Ancestral draws of all levels, side by side."""
        return self.latent(self._contexts(planes, available, False), noise)[0]

    def decode(
        self,
        planes: Float[Array, " b *p v"],
        available: Float[Array, " b v"],
        z: Float[Array, " b d"],
    ) -> Float[Array, " b *s"]:
        """Logits of latent vectors, all levels side by side."""
        context = self._contexts(planes, available, False)[-1]
        return self.decoder(jnp.concatenate([z, context], -1), False)

    def encode(
        self,
        planes: Float[Array, " b *p v"],
        available: Float[Array, " b v"],
        volume: Float[Array, " b *s"],
    ) -> tuple[LevelGaussian, ...]:
        """Posteriors, each at the means of the levels before it."""
        contexts = self._contexts(planes, available, False)
        noise = jnp.zeros((planes.shape[0], sum(self.latent.sizes)))
        return self.latent(contexts, noise, self.volume(volume[..., None], False))[1]

    def _contexts(self, planes, available, train):
        codes = dict(zip(self.planes.views, self.planes(planes, available, train)))
        return [jnp.concatenate([codes[view] for view in level], -1) for level in self.levels]


class VolumeAutoencoder(nn.Module):
    """TL-Net's voxel branch.

    Attributes:
        encoder: of the volume.
        decoder: to the volume.
        latents: length of the embedding.
    """

    encoder: StridedEncoder
    decoder: VolumeDecoder
    latents: int = 64

    def setup(self) -> None:
        """The layer to the embedding."""
        self.embedding = nn.Dense(self.latents, kernel_init=he_normal)

    def __call__(
        self, volume: Float[Array, " b *s"], train: bool
    ) -> tuple[Float[Array, " b *s"], Float[Array, " b d"]]:
        """Logits and embedding."""
        code = self.embedding(self.encoder(volume[..., None], train))
        return self.decoder(code, train), code

    def decode(self, code: Float[Array, " b d"]) -> Float[Array, " b *s"]:
        """Logits of an embedding."""
        return self.decoder(code, False)


class PlaneRegressor(nn.Module):
    """TL-Net's image branch: planes to the embedding of the volume.

    Attributes:
        planes: encoders of the planes.
        latents: length of the embedding.
        hidden: width of the dense layer.
    """

    planes: PlaneEncoders
    latents: int = 64
    hidden: int = 256

    @nn.compact
    def __call__(
        self, planes: Float[Array, " b *p v"], available: Float[Array, " b v"], train: bool
    ) -> Float[Array, " b d"]:
        """Embeddings."""
        x = jnp.concatenate(self.planes(planes, available, train), -1)
        x = jax.nn.elu(nn.Dense(self.hidden, kernel_init=he_normal)(x))
        return nn.Dense(self.latents)(x)


class PlaneGenerator(nn.Module):
    """Generator of a conditional GAN: planes and noise to a volume.

    Attributes:
        planes: encoders of the planes.
        decoder: to the volume.
    """

    planes: PlaneEncoders
    decoder: VolumeDecoder

    def __call__(
        self,
        planes: Float[Array, " b *p v"],
        available: Float[Array, " b v"],
        noise: Float[Array, " b d"],
        train: bool,
    ) -> tuple[Float[Array, " b *s"], Float[Array, " b c"]]:
        """Logits, and the embeddings of the planes side by side."""
        context = jnp.concatenate(self.planes(planes, available, train), -1)
        return self.decoder(jnp.concatenate([noise, context], -1), train), context


class VolumeJudge(nn.Module):
    """Discriminator: a volume with the embedding of its planes, tiled over its voxels.

    Attributes:
        features: channels of the convolutions of four taps and stride two.
        tiled: the embedding is projected to so many channels first; the volume has one.
        dtype: precision of the convolutions.
    """

    features: Sequence[int] = (16, 32, 64, 128)
    tiled: int = 4
    dtype: Dtype = None

    @nn.compact
    def __call__(
        self, volume: Float[Array, " b *s"], context: Float[Array, " b c"]
    ) -> Float[Array, " b"]:
        """One logit a sample."""
        code = nn.Dense(self.tiled)(context)
        code = code.reshape(code.shape[0], *(1,) * (volume.ndim - 1), self.tiled)
        x = jnp.concatenate(
            [volume[..., None], jnp.broadcast_to(code, (*volume.shape, self.tiled))], -1
        )
        for width in self.features:
            x = jax.nn.leaky_relu(Conv(width, 4, stride=2, dtype=self.dtype)(x), SLOPE)
        x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        return nn.Dense(1)(x)[:, 0]
