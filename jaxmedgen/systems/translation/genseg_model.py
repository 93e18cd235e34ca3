"""GenSeg's model: networks and settings, and what a trained one can do.

Source: Vorontsov et al., arXiv 1904.01636.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PRNGKeyArray

from jaxmedgen.nets.genseg import DomainDiscriminators, StatisticsNetwork, TranslationNet
from jaxmedgen.nets.genseg_decoder import Decoder
from jaxmedgen.nets.genseg_encoder import code_shape
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.translation.genseg_inputs import exchanges, prepare_pairs
from jaxmedgen.systems.translation.genseg_terms import Stage, class_probabilities
from jaxmedgen.train.objectives import PlayerSettings
from jaxmedgen.train.state import TrainState, create_state
from jaxmedgen.types import Augment, Batch

GENERATOR, DISCRIMINATOR = "generator", "discriminator"
SEGMENTER, ESTIMATOR, REVERSAL, LOCATOR = "segmenter", "estimator", "reversal", "locator"


@dataclasses.dataclass(frozen=True)
class GenSegModel:
    """The proposed model with its variants.

    Attributes:
        net: encoder and decoders.
        discriminators: of both domains.
        settings: of the players; those it has are its keys.
        stages: weights of the losses.
        augmentation: of images with their labels.
        domain_names: absence first, then each kind of finding.
        segmenter: a separate decoder for segmentation, or None to re-use the residual decoder.
        estimator: MINE's critic, or None.
        locators: networks that tell where a slice of either side lies in its volume, or None.
        placed: discriminators are told where slices lie.
        reversal: a decoder from u alone to ``x_PA`` whose gradient is reversed, or None.
        gan: adversarial loss, of `losses.adversarial.KINDS`.
        penalty: weight of a gradient penalty of the discriminators.
        penalty_kind: which.
        cycle: ``apa`` reconstructs A after a finding was added and removed, ``pap`` P after it was
            removed and added again.
        joint_latent: averages c and u together, as the published code does, not term by term.
        reversal_weight: strength of the reversed gradient after its ramp.
        reversal_ramp: steps over which it rises from 0.
        clip: images are clipped to [-1, 1] after augmentation.
        remat: codes of translated images are computed again in the backward pass.
    """

    net: TranslationNet
    discriminators: DomainDiscriminators
    settings: Mapping[str, PlayerSettings]
    stages: tuple[Stage, ...]
    augmentation: Augment
    domain_names: tuple[str, ...] = ("absence", "presence")
    segmenter: Decoder | None = None
    estimator: StatisticsNetwork | None = None
    reversal: Decoder | None = None
    locators: DomainDiscriminators | None = None
    placed: bool = False
    gan: str = "hinge"
    penalty: float | int = 0.0
    penalty_kind: str = "r1"
    cycle: Literal["apa", "pap"] = "apa"
    joint_latent: bool = True
    reversal_weight: float | int = 0.1
    reversal_ramp: int = 1
    clip: bool = False
    remat: bool = False

    def players(self) -> Mapping[str, PlayerSettings]:
        """Generator and discriminator; segmenter, estimator, ... where there are any."""
        return self.settings

    def init(self, key: PRNGKeyArray, batch: Batch) -> TrainState:
        """Fresh parameters; the batch gives shapes only."""
        keys = jax.random.split(key, 6)
        image = jnp.zeros_like(batch["image"][:1], dtype=jnp.float32)
        variables = {GENERATOR: self.net.init(keys[0], image)}
        domain, place = jnp.zeros(1, jnp.int32), jnp.zeros(1) if self.placed else None
        variables[DISCRIMINATOR] = self.discriminators.init(
            keys[1], image, image, domain, (place, place)
        )
        if self.locators is not None:
            locator_key = jax.random.fold_in(keys[1], 1)
            variables[LOCATOR] = self.locators.init(locator_key, image, image, domain)
        code, skips = self.net.apply(variables[GENERATOR], image, method="encode")
        common, unique = self.net.parts(code)
        if self.segmenter is not None:
            variables[SEGMENTER] = self.segmenter.init(keys[2], code, skips, "segmentation")
        if self.estimator is not None:
            zero = {name: jnp.zeros(()) for name in ("present", "added")}
            critic = self.estimator.init(keys[3], common, unique)
            variables[ESTIMATOR] = {**critic, "average": zero}
        if self.reversal is not None:
            variables[REVERSAL] = self.reversal.init(keys[4], unique, skips)
        return create_state(keys[5], variables, self.players())

    def prepare(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        """Augments either image with its own numbers and draws u of the findings to be added.

        With several domains it also draws which other finding takes the place of each, and its u.

        Raises:
            ValueError: the data set has no images without a finding, or no places of its slices
                where they are needed.
        """
        if (self.placed or self.locators is not None) and "absent_place" not in batch:
            raise ValueError(
                "this data set does not tell where its slices lie: set net.placed=False and "
                "loss.weights.place=0, or take data.kind=hemispheres"
            )
        prior = self._prior_shape(batch)
        ready = prepare_pairs(batch, keys, self.augmentation, clip=self.clip, prior=prior)
        return exchanges(ready, keys, self.net.domains, prior) if self.net.domains > 1 else ready

    def predict(
        self, variables: PlayerVariables, image: Float[Array, "b *s c"]
    ) -> Float[Array, "b *s k"]:
        """Class probabilities."""
        code, skips = self._encode(variables, self._clipped(image))
        return class_probabilities(self._logits(variables, code, skips))

    def translate(
        self,
        variables: PlayerVariables,
        keys: Key[Array, " b"],
        image: Float[Array, "b *s c"],
        target: str,
    ) -> Float[Array, "b *s c"]:
        """Images of one domain as they would be in another.

        Args:
            variables: by player.
            keys: one a sample, for the look of added findings.
            image: of any domain; a finding that is there is removed first.
            target: one of `domain_names`; the first one removes findings.

        Raises:
            ValueError: an unknown target, or one that the model was not built for.
        """
        if target not in self.domain_names:
            raise ValueError(
                f"target='{target}': this model translates to {', '.join(self.domain_names)}"
            )
        number = self.domain_names.index(target)
        code, skips = self._encode(variables, self._clipped(image))
        removed = self.net.apply(variables[GENERATOR], code, skips, method="remove")
        if number == 0:
            return removed
        if not self.net.split:
            raise ValueError("a model whose code is not split removes findings, it adds none")
        common, unique = self.net.parts(code)
        shape = (*unique.shape[1:-1], self.net.unique // self.net.domains)
        prior = jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
        domain = jnp.full(image.shape[0], number - 1)
        added = self.net.apply(variables[GENERATOR], common, prior, skips, domain, method="residue")
        return removed + added

    def show(
        self, variables: PlayerVariables, keys: Key[Array, " b"], batch: Batch
    ) -> dict[str, Float[Array, " b *s c"]]:
        """Findings removed and segmented; findings added with two draws of u."""
        shown = {
            "present": batch["image"],
            "removed": self.translate(variables, keys, batch["image"], self.domain_names[0]),
            "segmentation": 1 - self.predict(variables, batch["image"])[..., :1],
            "absent": batch["absent"],
        }
        for number in range(2 if self.net.split else 0):
            draws = jax.vmap(lambda key, n=number: jax.random.fold_in(key, n))(keys)
            shown[f"added {number + 1}"] = self.translate(
                variables, draws, batch["absent"], self.domain_names[1]
            )
        return shown

    def _clipped(self, image):
        return jnp.clip(image, -1, 1) if self.clip else image

    def _prior_shape(self, batch):
        levels = len(self.net.encoder.features) - 1
        channels = self.net.unique // self.net.domains
        return (*code_shape(batch["image"].shape[1:-1], levels), channels)

    def _encode(self, variables, image):
        return self.net.apply(variables[GENERATOR], image, method="encode")

    def _logits(self, variables, code, skips):
        if self.segmenter is not None:
            return self.segmenter.apply(variables[SEGMENTER], code, skips, "segmentation")
        return self.net.apply(variables[GENERATOR], code, skips, method="segment")
