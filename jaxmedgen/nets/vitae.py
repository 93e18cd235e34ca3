"""The transformational autoencoder: a VAE whose image passes through a spatial transformer.

``z_P -> parameters of a map T``, ``z_A -> image x~``, ``x = T x~`` (Detlefsen & Hauberg, "Explicit
disentanglement of appearance and perspective in generative models", 2019). Encoders:

- conditional (C-VITAE): ``q(z_P|x)``, then ``q(z_A|T^-1 x)``: the appearance is read off the image
  with its perspective undone;
- unconditional (U-VITAE): ``q(z_P|x)`` and ``q(z_A|x)``, independent.

Without a transformer it is a plain VAE; without appearance latents ``x~`` is one learned template
(groupwise registration). The deforming autoencoder (Shu et al., 2018) has another map: a grid that
integrates positive offsets, decoded without latent conditioning or noise.
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from jaxmedgen.nets.variational import (
    ConvDecoder,
    ConvEncoder,
    GaussianEncoder,
    MLPDecoder,
    MLPEncoder,
    UpsamplingDecoder,
    sample_gaussian,
)
from jaxmedgen.ops.resample import resample
from jaxmedgen.ops.transformers import Transformer
from jaxmedgen.types import Leaf

Architecture = Literal["mlp", "conv", "volume"]
Likelihood = Literal["bernoulli", "gaussian"]

_TEMPLATE_SCALE = 10.0
"""Factor of the template's parameters: Adam moves a voxel as fast as it should follow the mean."""


@struct.dataclass
class Posterior:
    """A Gaussian a sample: mean and log-variance ``[b, d]``."""

    mean: Leaf
    log_variance: Leaf


@struct.dataclass
class Reconstruction:
    """One pass through the model.

    Attributes:
        perspective: posterior of z_P, or None.
        appearance: posterior of z_A, or None.
        z_perspective: the draw from it.
        z_appearance: the draw from it.
        parameters: of the transformer ``[b, k]``, or None.
        mean: image ``[b, *s, c]`` as the likelihood sees it.
        variance: of each voxel.
        canonical: ``T^-1 x``, the input with its perspective undone (the input itself without a
            transformer).
    """

    perspective: Leaf
    appearance: Leaf
    z_perspective: Leaf
    z_appearance: Leaf
    parameters: Leaf
    mean: Leaf
    variance: Leaf
    canonical: Leaf


class Vitae(nn.Module):
    """Encoders, decoders and the transformer between them.

    Attributes:
        shape: of the images in voxels.
        channels: of the images.
        transformer: family of maps, or None for a plain VAE.
        perspective: latent dimensions of the map; 0 without a transformer.
        appearance: latent dimensions of the image; 0 for one learned template.
        conditional: whether the appearance is read off the image with its perspective undone.
        likelihood: ``bernoulli`` keeps the mean in (0, 1), ``gaussian`` leaves it free.
        architecture: ``mlp`` and ``conv`` of the reference implementation (``conv`` for 28^2 or
            so), ``volume`` with instance norm for larger images and volumes.
        features: widths of the encoders' layers, a convolution of stride 2 each for ``volume``;
            decoders have them in reverse.
        padding: how images go on beyond their border when warped.
    """

    shape: tuple[int, ...]
    channels: int
    transformer: Transformer | None
    perspective: int
    appearance: int
    conditional: bool = True
    likelihood: Likelihood = "bernoulli"
    architecture: Architecture = "mlp"
    features: tuple[int, ...] = (512, 256)
    padding: Literal["border", "constant"] = "border"

    def setup(self) -> None:
        """Builds the networks.

        Raises:
            ValueError: latents and transformer that do not fit.
        """
        if (self.transformer is None) != (self.perspective == 0):
            raise ValueError(
                f"perspective={self.perspective} latent dimensions with transformer="
                f"{self.transformer}: give both or neither"
            )
        if self.transformer is None and self.appearance == 0:
            raise ValueError("a VAE without a transformer needs appearance dimensions above 0")
        image = (*self.shape, self.channels)
        if self.perspective:
            self.perspective_encoder = self._encoder(self.perspective)
            size = self.transformer.size(self.shape)
            widths = self.features[::-1] if self.architecture == "mlp" else (128, 256)
            self.perspective_decoder = MLPDecoder((size,), widths, zero=True)
        if self.appearance:
            self.appearance_encoder = self._encoder(self.appearance)
            self.mean_decoder = self._decoder(image)
            self.variance_decoder = self._decoder(image)
        else:
            self.template = self.param("template", nn.initializers.zeros, image)
            self.template_variance = self.param("template_variance", nn.initializers.zeros, image)

    def __call__(
        self,
        image: Float[Array, " b *s c"],
        noise: Float[Array, " b d"],
        *,
        train: bool = False,
        strength: Float[Array, ""] | float | int = 1.0,
    ) -> Reconstruction:
        """Encodes, draws, decodes.

        Args:
            image: the data.
            noise: standard normal, z_P's dimensions first, then z_A's; 0 takes posterior means.
            train: whether batch norms use and update batch statistics.
            strength: of the deformable part of the map (`Transformer.ramped`).
        """
        posterior = z = parameters = coordinates = None
        canonical = image
        if self.perspective:
            posterior = self.encode_perspective(image, train=train)
            z = sample_gaussian(
                noise[:, : self.perspective], posterior.mean, posterior.log_variance
            )
            parameters = self.decode_perspective(z)
            parameters = self.transformer.ramped(parameters, self.shape, strength)
            coordinates, back = self.transformer.pair(parameters, self.shape)
            canonical = resample(image, back, mode=self.padding)
        appearance = z_appearance = None
        if self.appearance:
            seen = canonical if self.conditional else image
            appearance = self.encode_appearance(seen, train=train)
            z_appearance = sample_gaussian(
                noise[:, self.perspective :], appearance.mean, appearance.log_variance
            )
        mean, variance = self.decode_appearance(z_appearance, image.shape[0])
        if coordinates is not None:
            both = jnp.concatenate([mean, variance], -1)
            both = resample(both, coordinates, mode=self.padding)
            mean, variance = jnp.split(both, 2, axis=-1)
        return Reconstruction(
            posterior, appearance, z, z_appearance, parameters, mean, variance, canonical
        )

    def encode_perspective(
        self, image: Float[Array, " b *s c"], *, train: bool = False
    ) -> Posterior:
        """``q(z_P|x)``."""
        return Posterior(*self.perspective_encoder(image, train))

    def encode_appearance(
        self, image: Float[Array, " b *s c"], *, train: bool = False
    ) -> Posterior:
        """``q(z_A|x)`` of an image whose perspective is undone already where that is wanted."""
        return Posterior(*self.appearance_encoder(image, train))

    def decode_perspective(self, z: Float[Array, " b d"]) -> Float[Array, " b k"]:
        """Parameters of the map, within the transformer's reach."""
        raw = self.perspective_decoder(z).astype(jnp.float32)
        return self.transformer.bounded(raw, self.shape)

    def decode_appearance(
        self, z: Float[Array, " b d"] | None, count: int
    ) -> tuple[Float[Array, " b *s c"], Float[Array, " b *s c"]]:
        """Mean and variance images before the map; the template `count` times without z."""
        if self.appearance:
            raw, spread = self.mean_decoder(z), self.variance_decoder(z)
        else:
            whole = (count, *self.template.shape)
            raw = jnp.broadcast_to(_TEMPLATE_SCALE * self.template, whole)
            spread = jnp.broadcast_to(self.template_variance, whole)
        mean = jax.nn.sigmoid(raw) if self.likelihood == "bernoulli" else raw
        return mean, jax.nn.softplus(spread)

    def generate(
        self, z_perspective: Float[Array, " b d"] | None, z_appearance: Float[Array, " b e"] | None
    ) -> Float[Array, " b *s c"]:
        """The mean image of given latents."""
        given = z_appearance if z_perspective is None else z_perspective
        mean, _ = self.decode_appearance(z_appearance, given.shape[0])
        if not self.perspective:
            return mean
        parameters = self.decode_perspective(z_perspective)
        coordinates = self.transformer.coordinates(parameters, self.shape)
        return resample(mean, coordinates, mode=self.padding)

    def _encoder(self, latents: int) -> GaussianEncoder:
        if self.architecture == "volume":
            trunk = ConvEncoder(
                2 * latents,
                self.features,
                (2,) * len(self.features),
                norm="instance",
                pool="mean",
                slope=0.2,
                normalise=False,
            )
            return GaussianEncoder(trunk, None)
        kind = {"mlp": MLPEncoder, "conv": ConvEncoder}[self.architecture]
        return GaussianEncoder(kind(latents, self.features), kind(latents, self.features))

    def _decoder(self, image: tuple[int, ...]) -> nn.Module:
        if self.architecture == "volume":
            return UpsamplingDecoder(image, self.features[::-1])
        if self.architecture == "conv":
            return ConvDecoder(image, self.features[-1])
        return MLPDecoder(image, self.features[::-1])
