"""What GenSeg is compared with: segmentation alone, with an autoencoder, with a mean teacher.

All three have GenSeg's encoder and a segmentation decoder with its long skips. The autoencoder
reconstructs the images of both domains from the code alone (similar to Myronenko, BraTS 2018). The
mean teacher (Tarvainen & Valpola, NeurIPS 2017) asks the segmentations of two noisy copies of an
image to agree, one of them by the average of the weights over the steps.
"""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PRNGKeyArray

from jaxmedgen.losses.labelled_dice import labelled_dice_loss
from jaxmedgen.nets.genseg_decoder import Decoder
from jaxmedgen.nets.genseg_encoder import Encoder
from jaxmedgen.nets.spectral import COLLECTION
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.translation.genseg_inputs import prepare_pairs, targets
from jaxmedgen.systems.translation.genseg_terms import class_probabilities, l1
from jaxmedgen.train.objectives import LossInputs, LossOutputs, Objective, PlayerSettings
from jaxmedgen.train.state import TrainState, create_state
from jaxmedgen.types import Augment, Batch

PLAYER = "segmenter"


class BaselineNet(nn.Module):
    """Encoder, segmentation decoder and, for the autoencoder, a reconstruction decoder.

    Attributes:
        encoder: E.
        segmenter: with mode ``segmentation``.
        decoder: with mode ``translation``, or None.
        classes: label values, background included.
    """

    encoder: Encoder
    segmenter: Decoder
    decoder: Decoder | None = None
    classes: int = 2

    def __call__(
        self, image: Float[Array, "b *s c"], update: bool = False
    ) -> tuple[Float[Array, "b *s k"], Float[Array, "b *s c"] | None]:
        """Logits of the foreground classes, and the images again (None without a decoder)."""
        code, skips = self.encoder(image, update)
        logits = self.segmenter(code, skips, "segmentation", update=update)
        again = None if self.decoder is None else self.decoder(code, skips, update=update)
        return logits, again

    def segment(self, image: Float[Array, "b *s c"]) -> Float[Array, "b *s k"]:
        """Logits of the foreground classes."""
        code, skips = self.encoder(image)
        return self.segmenter(code, skips, "segmentation")


@dataclasses.dataclass(frozen=True)
class SemiSupervised:
    """A segmenter with or without a second task on images that have no mask.

    Attributes:
        net: the networks.
        settings: optimiser, and for the mean teacher the averaging.
        augmentation: of images with their labels.
        segmentation: weight of the Dice loss.
        reconstruction: weight of the autoencoder's L1 loss.
        consistency: weight of the mean teacher's squared difference after its ramp.
        ramp: steps over which it rises, by ``exp(-5 (1 - t)^2)``.
        noise: deviation of the noise on either copy.
        clip: images are clipped to [-1, 1] after augmentation.
    """

    net: BaselineNet
    settings: PlayerSettings
    augmentation: Augment
    segmentation: float | int = 1.0
    reconstruction: float | int = 0.0
    consistency: float | int = 0.0
    ramp: int = 1
    noise: float | int = 0.1
    clip: bool = False

    def players(self) -> Mapping[str, PlayerSettings]:
        """One player, all networks."""
        return {PLAYER: self.settings}

    def init(self, key: PRNGKeyArray, batch: Batch) -> TrainState:
        """Fresh parameters; the batch gives shapes only."""
        init_key, run_key = jax.random.split(key)
        image = jnp.zeros_like(batch["image"][:1], dtype=jnp.float32)
        return create_state(run_key, {PLAYER: self.net.init(init_key, image)}, self.players())

    def objectives(self) -> tuple[Objective, ...]:
        """One loss, whose Dice is of the whole batch; spectral norms move on once a step."""
        return (Objective("segmentation", (PLAYER,), self._loss, whole_batch=True),)

    def prepare(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        """Augments either image with its own numbers.

        Raises:
            ValueError: the data set has no images without a finding.
        """
        return prepare_pairs(batch, keys, self.augmentation, clip=self.clip)

    def predict(
        self, variables: PlayerVariables, image: Float[Array, "b *s c"]
    ) -> Float[Array, "b *s k"]:
        """Class probabilities."""
        image = jnp.clip(image, -1, 1) if self.clip else image
        return class_probabilities(self.net.apply(variables[PLAYER], image, method="segment"))

    def _loss(self, inputs: LossInputs) -> tuple[Float[Array, ""], LossOutputs]:
        batch, variables = inputs.batch, inputs.variables[PLAYER]
        image, count = batch["image"], len(batch["image"])
        if self.reconstruction or self.consistency:
            image = jnp.concatenate([image, batch["absent"]])
        shown = image
        if self.consistency:
            keys = jnp.concatenate([inputs.keys, _folded(inputs.keys, 1)])
            shown = self._noisy(image, _folded(keys, 2))
        (logits, again), updated = self.net.apply(
            variables, shown, update=True, mutable=[COLLECTION]
        )
        probabilities = class_probabilities(logits)
        mask, known = targets(batch, self.net.classes)
        terms = {"segmentation": labelled_dice_loss(probabilities[:count, ..., 1:], mask, known)}
        value = self.segmentation * terms["segmentation"]
        if self.reconstruction:
            terms["reconstruction"] = 2 * l1(image, again)  # a mean of each domain
            value = value + self.reconstruction * terms["reconstruction"]
        if self.consistency:
            teacher = {**variables, "params": inputs.ema[PLAYER]}
            other = self._noisy(image, _folded(keys, 3))
            guess = class_probabilities(self.net.apply(teacher, other, method="segment"))
            difference = probabilities - jax.lax.stop_gradient(guess)
            terms["consistency"] = jnp.mean(jnp.square(difference))
            risen = jnp.minimum(inputs.step / self.ramp, 1.0)
            weight = self.consistency * jnp.exp(-5 * jnp.square(1 - risen))
            value = value + weight * terms["consistency"]
        return value, LossOutputs(jax.lax.stop_gradient(terms), {PLAYER: updated})

    def _noisy(self, image, keys):
        draw = jax.vmap(lambda key: jax.random.normal(key, image.shape[1:]))
        return image + self.noise * draw(keys)


def _folded(keys, number):
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
