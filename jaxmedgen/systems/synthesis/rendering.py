"""Images of label maps in styles: drawn ones, those of other images, those of vendors.

The base class of the system, apart from what is trained.
"""

import abc

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxmedgen.augment.mixing import one_hot
from jaxmedgen.nets.synthesizer import Synthesizer
from jaxmedgen.ops.percentiles import scale_intensities
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.synthesis.padding import pad_to
from jaxmedgen.types import Batch

GENERATOR = "generator"


class RendersLabels(abc.ABC):
    """A generator; attributes as `conditional_gan.LabelToImageGan` has them."""

    net: Synthesizer
    shape: tuple[int, ...]
    classes: int
    scaling: str
    vendors: tuple[int, ...]
    vendor_names: tuple[str, ...]
    channels: int

    @property
    def needs_style(self) -> bool:
        """Whether images are made in the style of given ones only (`stylise`)."""
        return self.net.deterministic

    def encode(
        self, variables: PlayerVariables, image: Float[Array, " b *s c"]
    ) -> tuple[Float[Array, "b d"], Float[Array, "b d"] | None]:
        """Mean and log-variance of the style of images of any intensities.

        Of volumes, ``[b, n, *s, c]`` with their slices first, the middle slices are read. They are
        scaled by their volumes' percentiles, as in training, where `scaling` says so.

        Raises:
            ValueError: the styles of this system are not read from images.
        """
        if self.net.style is None:
            raise ValueError("this generator reads no style from images: train arm=vae or style")
        image = scale_intensities(image, self.scaling)
        if image.ndim == len(self.shape) + 3:
            image = image[:, image.shape[1] // 2]
        image = pad_to(image, self.shape, -1.0)
        return self.net.apply(variables[GENERATOR], image, method="encode")

    def sample(
        self, variables: PlayerVariables, keys: Key[Array, " b"], label: Int[Array, " b *s"]
    ) -> tuple[Float[Array, " b *s c"], Int[Array, " b *s"]]:
        """Images in [-1, 1] of label maps, or stacks of them, in styles that are drawn.

        Args:
            variables: by player.
            keys: one a sample; a stack has one style.
            label: label maps, or stacks ``[b, n, *s]`` with their slices first.

        Raises:
            ValueError: the system has no style to draw, or label maps larger than the networks'.
        """
        if self.needs_style:
            raise ValueError(
                "this generator draws no styles (arm=style): give an image with `stylise`"
            )
        split = jax.vmap(jax.random.split)(keys)
        z, vendor = self._noise(split[:, 0]), None
        if self.net.vendors:
            place = jax.vmap(lambda k: jax.random.randint(k, (), 0, len(self.vendors)))
            vendor = jnp.asarray(self.vendors, jnp.int32)[place(split[:, 1])]
        return self.render(variables, label, z, vendor), label

    @property
    def style_names(self) -> tuple[str, ...]:
        """The vendors that it was trained on, where it has any."""
        return tuple(self.vendor_names[k] for k in self.vendors) if self.net.vendors else ()

    def sample_style(
        self,
        variables: PlayerVariables,
        keys: Key[Array, " b"],
        label: Int[Array, " b *s"],
        style: str,
    ) -> tuple[Float[Array, " b *s c"], Int[Array, " b *s"]]:
        """As `sample`, all of one vendor of `style_names`.

        Raises:
            ValueError: another vendor.
        """
        if style not in self.style_names:
            known = ", ".join(self.style_names) or "none (train arm=vendor)"
            raise ValueError(f"vendor '{style}': this generator knows {known}")
        z = self._noise(jax.vmap(jax.random.split)(keys)[:, 0])
        vendor = jnp.full(len(keys), self.vendor_names.index(style), jnp.int32)
        return self.render(variables, label, z, vendor), label

    def stylise(
        self,
        variables: PlayerVariables,
        label: Int[Array, " b *s"],
        style: Float[Array, " b *r c"],
    ) -> Float[Array, " b *s c"]:
        """Images in [-1, 1] of label maps (or stacks, slices first) in the styles of images.

        Raises:
            ValueError: the styles of this system are not read from images.
        """
        return self.render(variables, label, self.encode(variables, style)[0])

    def interpolate(
        self,
        variables: PlayerVariables,
        label: Int[Array, " b *s"],
        first: Float[Array, " b *r c"],
        last: Float[Array, " b *q c"],
        places: Float[Array, " steps"],
    ) -> Float[Array, "steps b *s c"]:
        """Images of label maps in styles on the line through those of two images, at 0 and 1."""
        ends = [self.encode(variables, image)[0] for image in (first, last)]
        between = [(1 - t) * ends[0] + t * ends[1] for t in places]
        return jnp.stack([self.render(variables, label, z) for z in between])

    def render(
        self,
        variables: PlayerVariables,
        label: Int[Array, " b *s"],
        z: Float[Array, "b d"],
        vendor: Int[Array, " b"] | None = None,
    ) -> Float[Array, " b *s c"]:
        """Images in [-1, 1] of label maps (or stacks, slices first) and latent vectors.

        Raises:
            ValueError: label maps larger than the networks', or no vendor where one is needed.
        """
        if self.net.vendors and vendor is None:
            raise ValueError("render: this generator is conditioned on vendors: give vendor=")
        given = label.shape
        if label.ndim == len(self.shape) + 2:
            z, vendor = (None if x is None else jnp.repeat(x, given[1], 0) for x in (z, vendor))
            label = label.reshape(-1, *given[2:])
        size = label.shape[1:]
        padded = one_hot(pad_to(label, self.shape, 0), self.classes)
        image = self.net.apply(variables[GENERATOR], padded, z, vendor, method="generate")
        image = image[(slice(None), *(slice(n) for n in size))]
        return image.reshape(*given, self.channels)

    def show(
        self, variables: PlayerVariables, keys: Key[Array, " b"], batch: Batch
    ) -> dict[str, Float[Array, " b *s c"]]:
        """Label maps, real images, and images in their own and in drawn styles."""
        label, image = batch["label"], batch["image"]
        shown = {"label": label[..., None].astype(jnp.float32), "real": image}
        if self.net.style is not None:
            code = self.net.apply(variables[GENERATOR], image, method="encode")[0]
            shown["own_style"] = self.render(variables, label, code)
            shown["next_style"] = self.render(variables, label, jnp.roll(code, 1, 0))
        if not self.net.deterministic:
            shown["drawn_style"] = self.sample(variables, keys, label)[0]
        return shown

    def _noise(self, keys):
        return jax.vmap(lambda key: jax.random.normal(key, (self.net.latent,)))(keys)
