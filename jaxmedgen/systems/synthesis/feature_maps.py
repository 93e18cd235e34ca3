"""Feature networks of the perceptual loss that need no download.

``segmenter``: the encoder of a small segmentation U-Net which is trained on the training images
themselves in the first steps and then left alone; ``random``: a narrow VGG with He's random
weights; ``file``: VGG-19 with weights from a file; ``gradients``: no network, image and gradient at
several scales; ``none``.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxmedgen.losses.perceptual import gradient_features
from jaxmedgen.losses.segmentation import dice_ce_loss
from jaxmedgen.nets.unet import UNet
from jaxmedgen.nets.vgg import Vgg, read_vgg19
from jaxmedgen.types import Variables

Kind = Literal["segmenter", "random", "file", "gradients", "none"]
RANDOM_SEED = 1
"""Of the random VGG: the same in every run, so that losses can be compared."""


@dataclasses.dataclass(frozen=True)
class FeatureMaps:
    """What maps images to features.

    Attributes:
        kind: see above.
        net: `UNet` of a segmenter, or `Vgg`; None without a network.
        steps: in which the segmenter is trained, before the perceptual loss sets in.
        file: of VGG-19's weights, where the kind is ``file``.
    """

    kind: Kind = "segmenter"
    net: UNet | Vgg | None = None
    steps: int = 0
    file: str = ""

    @property
    def trained(self) -> bool:
        """Whether the network learns in the first steps."""
        return self.kind == "segmenter"

    def init(self, key: PRNGKeyArray, image: Float[Array, "b *s c"]) -> Variables | None:
        """The network's variables; None without a network."""
        if self.kind == "file":
            return read_vgg19(self.file)
        if self.kind == "random":
            return self.net.init(jax.random.key(RANDOM_SEED), image)
        return self.net.init(key, image) if self.trained else None

    def __call__(
        self, variables: Variables | None, image: Float[Array, "b *s c"]
    ) -> Sequence[Float[Array, "b *_ k"]]:
        """Maps of images in [-1, 1], fine to coarse."""
        if self.kind == "gradients":
            return gradient_features(image)
        if not self.trained:
            return self.net.apply(variables, image)

        def is_level(module: nn.Module, _: str) -> bool:
            return (module.name or "").startswith("encoder_")

        _, found = self.net.apply(
            variables, image, capture_intermediates=is_level, mutable=["intermediates"]
        )
        levels = found["intermediates"]
        return tuple(levels[f"encoder_{i}"]["__call__"][0] for i in range(len(levels)))

    def segmentation_loss(
        self,
        variables: Variables,
        image: Float[Array, "b *s c"],
        label: Int[Array, " b *s"],
        step: Int[Array, ""],
    ) -> Float[Array, ""]:
        """Dice and cross-entropy of the segmenter; 0 once its steps are over."""

        def loss(variables):
            return dice_ce_loss(self.net.apply(variables, image, train=True), label)

        return jax.lax.cond(step < self.steps, loss, lambda _: jnp.float32(0), variables)
