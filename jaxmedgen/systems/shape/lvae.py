"""Ladder VAE of shapes with a classifier on its topmost latent vector; with one level, VAE + MLP.

A classifier that shows what it goes by: it reads a short latent vector that shapes can be decoded
from. Joint training of the VAE and the classifier (Biffi et al., "Learning interpretable anatomical
features through deep generative models: application to cardiac remodeling", MICCAI 2018), and the
same with a two-dimensional vector on top of a ladder (Biffi et al., "Explainable anatomical shape
analysis through deep hierarchical generative models", IEEE TMI 39(6), 2020):

    L = sum_c (1 - Dice_c) + lambda(t) [ sum_l alpha_l KL_l + beta CE(y, MLP(z_top)) ]

Dice is soft, of each phase or organ c and sample, with plain sums in the denominator; KL is summed
over dimensions; lambda rises linearly to 1. `ShapeCriterion.voxels` adds a cross-entropy of voxels.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, PRNGKeyArray

from jaxmedgen.augment.shape_masks import ShapeAugmentation
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.losses.variational import dimensions_in_use, warm_up
from jaxmedgen.nets.gaussian_heads import check_classes
from jaxmedgen.nets.ladder import LadderVAE, ShapePredictor
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.shape.lvae_criterion import ShapeCriterion, shape_loss
from jaxmedgen.systems.shape.lvae_levels import PREDICTOR, VAE, ShapesOfLevels
from jaxmedgen.systems.shape.lvae_parts import ladder_nets, player, shape_augmentation
from jaxmedgen.train.objectives import LossInputs, LossOutputs, Objective, PlayerSettings
from jaxmedgen.train.state import TrainState, create_state
from jaxmedgen.types import Batch


@dataclasses.dataclass(frozen=True)
class LadderShapeVae(ShapesOfLevels):
    """A VAE of shapes with its classifier and criterion.

    Attributes:
        net: the model of shapes.
        predictor: the classifier.
        settings: optimiser and weight averaging of the model of shapes.
        predictor_settings: of the classifier.
        criterion: what is minimised.
        augmentation: of training shapes, or None.
    """

    net: LadderVAE
    predictor: ShapePredictor
    settings: PlayerSettings
    predictor_settings: PlayerSettings
    criterion: ShapeCriterion
    augmentation: ShapeAugmentation | None = None

    def __post_init__(self) -> None:
        if len(self.criterion.divergence) != len(self.net.latents):
            raise ValueError(
                f"criterion.divergence={self.criterion.divergence} for {len(self.net.latents)} "
                "levels: give one weight a level, lowest first"
            )

    def players(self) -> Mapping[str, PlayerSettings]:
        """The model of shapes and the classifier."""
        return {VAE: self.settings, PREDICTOR: self.predictor_settings}

    def check_record(self, record: Mapping[str, Any]) -> None:
        """Refuses a record whose class does not exist, or one of whose masks is empty.

        Raises:
            ValueError: a class below 0 or beyond the classifier's; a channel without foreground,
                of which Dice says nothing and whose wall has no thickness.
        """
        if self.criterion.classification and "target" in record:
            check_classes(np.asarray(record["target"]), self.predictor.classes, "'target'")
        mask = np.asarray(record["image"])
        empty = np.flatnonzero(~mask.any(tuple(range(mask.ndim - 1))))
        if empty.size:
            raise ValueError(
                f"the mask of channel {', '.join(map(str, empty))} (from 0) is empty: leave the "
                "case out, or check data.label_map"
            )

    def init(self, key: PRNGKeyArray, batch: Batch) -> TrainState:
        """Fresh parameters, of the shape that the network was built for."""
        del batch
        vae_key, predictor_key, run_key = jax.random.split(key, 3)
        image = jnp.zeros((1, *self.net.shape, self.net.channels))
        noise = {name: jnp.zeros((1, size)) for name, size in self.levels.items()}
        variables = {
            VAE: self.net.init(vae_key, image, noise, True),
            PREDICTOR: self.predictor.init(predictor_key, noise[self.top], True),
        }
        return create_state(run_key, variables, self.players())

    def objectives(self) -> tuple[Objective, ...]:
        """One joint objective; two where the classifier must not touch the encoder."""
        if not self.criterion.classification:
            return (Objective("bound", (VAE,), self._loss),)
        if self.criterion.joint:
            return (Objective("bound", (VAE, PREDICTOR), self._loss),)
        return (
            Objective("bound", (VAE,), self._loss),
            Objective("classification", (PREDICTOR,), self._classification_loss),
        )

    def prepare(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        """Augmented shapes, one draw a sample; the reference implementation has it off."""
        if self.augmentation is None:
            return batch
        return {**batch, "image": self.augmentation(keys, batch["image"])}

    def validation_loss(self, variables: PlayerVariables, batch: Batch) -> Float[Array, " b"]:
        """The criterion of each sample with all weights full, along the path of means."""
        criterion, image = self.criterion, batch["image"]
        found, loss = self._encode(variables, image), jnp.zeros(len(image))
        if criterion.reconstruction:
            logits = self.net.apply(variables[VAE], found.latents["z0"], method="decode")
            loss = loss + shape_loss(image, logits, criterion.voxels)[0]
        kl = self._divergences(found)
        for alpha, name in zip(reversed(criterion.divergence), self.levels):
            loss = loss + alpha * kl[name].sum(-1)
        if criterion.classification:
            scores = self.scores(variables, found.latents[self.top])
            entropy = optax.softmax_cross_entropy_with_integer_labels(scores, batch["target"])
            loss = loss + criterion.classification * entropy
        return loss

    def _noise(self, keys):
        def draw(key):
            parts = jax.random.split(key, len(self.levels))
            sizes = zip(parts, self.levels.items())
            return {name: jax.random.normal(part, (size,)) for part, (name, size) in sizes}

        return jax.vmap(draw)(keys)

    def _loss(self, inputs: LossInputs) -> tuple[Float[Array, ""], LossOutputs]:
        criterion, image = self.criterion, inputs.batch["image"]
        noise = self._noise(inputs.keys)
        if not criterion.stochastic:
            noise = jax.tree.map(jnp.zeros_like, noise)
        found, updated = self.net.apply(
            inputs.variables[VAE],
            image,
            noise,
            True,
            decode=criterion.reconstruction,
            mutable=["batch_stats"],
        )
        changed, metrics, loss = {VAE: updated}, {}, jnp.float32(0)
        if criterion.reconstruction:
            losses, dice = shape_loss(image, found.logits, criterion.voxels)
            loss = losses.mean()
            metrics |= {"reconstruction": (1 - dice).sum(-1).mean(), "soft_dice": dice.mean()}
        weight = criterion.ramp + (1 - criterion.ramp) * warm_up(inputs.step, criterion.ramp_steps)
        penalty = jnp.float32(0)
        divergences = self._divergences(found)
        for alpha, name in zip(reversed(criterion.divergence), self.levels):
            kl = divergences[name].sum(-1).mean()
            penalty = penalty + alpha * kl
            if any(criterion.divergence):
                metrics |= {f"kl_{name}": kl, f"used_{name}": dimensions_in_use(divergences[name])}
        if criterion.classification and criterion.joint:
            drawn = criterion.predict_from == "sample"
            z = found.latents[self.top] if drawn else found.posteriors[self.top][0]
            entropy, accuracy, changed[PREDICTOR] = self._cross_entropy(inputs, z)
            penalty = penalty + criterion.classification * entropy
            metrics |= {"cross_entropy": entropy, "accuracy": accuracy}
        outputs = LossOutputs(jax.lax.stop_gradient(metrics), changed)
        return loss + weight * penalty, outputs

    def _classification_loss(self, inputs: LossInputs) -> tuple[Float[Array, ""], LossOutputs]:
        z = self._encode(inputs.variables, inputs.batch["image"]).latents[self.top]
        entropy, accuracy, updated = self._cross_entropy(inputs, jax.lax.stop_gradient(z))
        metrics = {"cross_entropy": entropy, "accuracy": accuracy}
        return entropy, LossOutputs(jax.lax.stop_gradient(metrics), {PREDICTOR: updated})

    def _cross_entropy(self, inputs, z):
        target = inputs.batch["target"]
        scores, updated = self.predictor.apply(
            inputs.variables[PREDICTOR], z, True, mutable=["batch_stats"]
        )
        entropy = optax.softmax_cross_entropy_with_integer_labels(scores, target).mean()
        accuracy = (jnp.argmax(scores, -1) == target).mean(dtype=jnp.float32)
        return entropy, accuracy, updated


def build(config: Any, info: DatasetInfo) -> LadderShapeVae:
    """The system of a configuration for a data set.

    Raises:
        ValueError: settings that do not fit each other or the data.
    """
    net, predictor = ladder_nets(config, info)
    criterion, rate = dict(config.criterion), config.optimizer
    criterion["divergence"] = tuple(criterion["divergence"])
    return LadderShapeVae(
        net=net,
        predictor=predictor,
        settings=player(rate, int(rate.share * config.steps)),
        predictor_settings=player(rate, config.steps),
        criterion=ShapeCriterion(**criterion),
        augmentation=shape_augmentation(config),
    )
