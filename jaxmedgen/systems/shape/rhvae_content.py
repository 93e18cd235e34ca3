"""What a model of `rhvae` shows: images, label maps, or both at once, with their likelihoods.

Channels are those of the image, then one a label value. Images are Bernoulli (in [0, 1], from
logits) or Gaussian of a fixed deviation, labels categorical.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmedgen.losses.reconstruction import log_likelihood
from jaxmedgen.types import Batch

CONTENTS = ("image", "label", "both")
LIKELIHOODS = ("bernoulli", "gaussian")


@dataclasses.dataclass(frozen=True)
class Content:
    """What is modelled.

    Attributes:
        kind: "image", "label" or "both".
        channels: of the images.
        classes: label values.
        likelihood: of the images, "bernoulli" or "gaussian".
        deviation: of the Gaussian.
    """

    kind: str
    channels: int
    classes: int
    likelihood: str = "bernoulli"
    deviation: float | int = 1.0

    def __post_init__(self) -> None:
        if self.kind not in CONTENTS:
            raise ValueError(f"model.content='{self.kind}': choose one of {', '.join(CONTENTS)}")
        if self.likelihood not in LIKELIHOODS:
            raise ValueError(
                f"model.likelihood='{self.likelihood}': choose one of {', '.join(LIKELIHOODS)}"
            )
        if self.deviation <= 0:
            raise ValueError(f"model.deviation={self.deviation}: give a positive number")
        if self.kind != "image" and self.classes < 2:
            raise ValueError(
                f"model.content='{self.kind}' needs label maps of at least two classes, the data "
                f"has {self.classes}: set model.content=image"
            )

    @property
    def image_channels(self) -> int:
        """Channels of the image, 0 without one."""
        return 0 if self.kind == "label" else self.channels

    @property
    def total(self) -> int:
        """All channels."""
        return self.image_channels + (0 if self.kind == "image" else self.classes)

    def of(self, batch: Batch) -> Float[Array, " b *s c"]:
        """A batch as the model sees it."""
        parts = []
        if self.kind != "label":
            parts.append(batch["image"])
        if self.kind != "image":
            parts.append(jax.nn.one_hot(batch["label"], self.classes))
        return jnp.concatenate(parts, -1)

    def log_likelihood(
        self, x: Float[Array, " b *s c"], output: Float[Array, " b *s c"]
    ) -> Float[Array, " b"]:
        """``log p(x|z)`` of each sample for the decoder's output."""
        n = self.image_channels
        total = jnp.zeros(x.shape[0])
        if n:
            scale = jnp.log(jnp.asarray(self.deviation, jnp.float32))
            total = log_likelihood(self.likelihood, x[..., :n], output[..., :n], scale)
        if self.kind != "image":
            total = total + log_likelihood("categorical", x[..., n:], output[..., n:])
        return total

    def mean(self, output: Float[Array, " b *s c"]) -> Float[Array, " b *s c"]:
        """Mean image and class probabilities of the decoder's output."""
        n, parts = self.image_channels, []
        if n:
            image = output[..., :n]
            parts.append(jax.nn.sigmoid(image) if self.likelihood == "bernoulli" else image)
        if self.kind != "image":
            parts.append(jax.nn.softmax(output[..., n:]))
        return jnp.concatenate(parts, -1)

    def split(
        self, mean: Float[Array, " b *s c"]
    ) -> tuple[Float[Array, " b *s i"], Int[Array, " b *s"] | None]:
        """Image (no channels without one) and likeliest label map (None without one)."""
        n = self.image_channels
        label = None if self.kind == "image" else jnp.argmax(mean[..., n:], -1).astype(jnp.int32)
        return mean[..., :n], label
