"""A generator from label maps with its source of style: none, noise, an encoder, a vendor."""

from typing import NamedTuple

import flax.linen as nn
from jaxtyping import Array, Float, Int

from jaxmedgen.nets.style import StyleNet
from jaxmedgen.nets.variational import sample_gaussian
from jaxmedgen.types import Leaf


class Synthesis(NamedTuple):
    """Images, and the posterior of their style where an encoder draws it.

    Attributes:
        image: ``[b, *s, c]`` in (-1, 1).
        mean: of the style vector ``[b, d]``, or None.
        log_variance: of the style vector, or None where there is no noise.
    """

    image: Leaf
    mean: Leaf
    log_variance: Leaf


class Synthesizer(nn.Module):
    """Label maps, and a latent vector in one of several ways, to images.

    Attributes:
        generator: ``(label, z, train, update) -> image``, see `SpadeGenerator`.
        style: `StyleEncoder` or `StyleNet` of an image; None draws the latent vector from N(0, I).
        latent: dimensions of the latent vector; 0 makes the image a function of the label map.
        vendors: number of vendors whose learned vectors are added to the latent one; 0 for none.
    """

    generator: nn.Module
    style: nn.Module | None = None
    latent: int = 0
    vendors: int = 0

    def setup(self) -> None:
        """Makes the vendors' vectors."""
        if self.vendors:
            self.embedding = nn.Embed(self.vendors, self.latent)

    @property
    def deterministic(self) -> bool:
        """Whether the style is read from an image without noise, so that none can be drawn."""
        return isinstance(self.style, StyleNet)

    def __call__(
        self,
        label: Float[Array, "b *s k"],
        noise: Float[Array, "b d"],
        image: Float[Array, "b *s c"],
        vendor: Int[Array, " b"] | None = None,
        train: bool = False,
        update: bool = False,
    ) -> Synthesis:
        """Images in the style of given ones, where an encoder reads it.

        Args:
            label: one-hot label maps.
            noise: standard normal, of the latent vector.
            image: images whose style is read.
            vendor: number of the vendor, where there are vendors.
            train: whether batch norms take their statistics from this batch.
            update: whether power iterations move on.
        """
        mean = log_variance = None
        z = noise
        if self.style is not None:
            mean, log_variance = self.encode(image, train, update)
            z = mean if log_variance is None else sample_gaussian(noise, mean, log_variance)
        made = self.generate(label, z, vendor, train, update)
        return Synthesis(made, mean, log_variance)

    def encode(
        self, image: Float[Array, "b *s c"], train: bool = False, update: bool = False
    ) -> tuple[Float[Array, "b d"], Float[Array, "b d"] | None]:
        """Mean and log-variance (None without noise) of the style of images."""
        if self.deterministic:
            return self.style(image, train, update), None
        return self.style(image, train, update)

    def generate(
        self,
        label: Float[Array, "b *s k"],
        z: Float[Array, "b d"],
        vendor: Int[Array, " b"] | None = None,
        train: bool = False,
        update: bool = False,
    ) -> Float[Array, "b *s c"]:
        """Images of one-hot label maps and latent vectors (which count only if there are any)."""
        if self.vendors:
            z = z + self.embedding(vendor)
        return self.generator(label, z if self.latent else None, train, update)
