"""Classification of whole images by a small network.

Its main use is a feature extractor of the domain (`nets.feature_extractor`): trained on the real
training images to tell vendors, diseases or phases, it stands in for networks that were trained on
photographs. A key of the records holds the image's class.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, PRNGKeyArray

from jaxmedgen.augment.presets import preset
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.nets.feature_extractor import ResNet
from jaxmedgen.nets.image_classifiers import CNNClassifier, DenseNet, MLPClassifier
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.train.objectives import LossInputs, LossOutputs, Objective, PlayerSettings
from jaxmedgen.train.players import init_image_player, player_settings
from jaxmedgen.train.state import TrainState
from jaxmedgen.types import Augment, Batch

PLAYER = "classifier"


@dataclasses.dataclass(frozen=True)
class ImageClassifier:
    """A classifier with its augmentation.

    Attributes:
        net: the network; its outputs have ``logits``.
        settings: optimiser and weight averaging.
        augmentation: random transform of the images.
        channels: of the images.
        target: key of the batch that holds the images' classes.
    """

    net: nn.Module
    settings: PlayerSettings
    augmentation: Augment
    channels: int = 1
    target: str = "target"

    def players(self) -> Mapping[str, PlayerSettings]:
        """One player, the classifier."""
        return {PLAYER: self.settings}

    def init(self, key: PRNGKeyArray, batch: Batch) -> TrainState:
        """Fresh parameters for images of the batch's shape."""
        return init_image_player(key, PLAYER, self.net, self.settings, batch, self.channels)

    def objectives(self) -> tuple[Objective, ...]:
        """Softmax cross-entropy."""
        return (Objective("classification", (PLAYER,), self._loss),)

    def prepare(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        """Augments the images; label maps, where there are any, move along and are not used."""
        image = batch["image"]
        label = batch.get("label", jnp.zeros(image.shape[:-1], jnp.int32))
        return {**batch, "image": self.augmentation(keys, image, label)[0]}

    def classify(
        self, variables: PlayerVariables, image: Float[Array, "b *s c"]
    ) -> Float[Array, "b k"]:
        """Class probabilities."""
        return jax.nn.softmax(self.net.apply(variables[PLAYER], image).logits)

    def _loss(self, inputs: LossInputs) -> tuple[Float[Array, ""], LossOutputs]:
        variables, batch = inputs.variables[PLAYER], inputs.batch
        target = batch[self.target]
        outputs, updated = self.net.apply(
            variables, batch["image"], train=True, mutable=["batch_stats"]
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs.logits, target)
        right = (jnp.argmax(outputs.logits, -1) == target).mean(dtype=jnp.float32)
        return losses.mean(), LossOutputs(metrics={"accuracy": right}, variables={PLAYER: updated})


def build(config: Any, info: DatasetInfo) -> ImageClassifier:
    """The system of a configuration; ``config.targets`` names the classes."""
    return ImageClassifier(
        net=_network(config.net, len(config.targets)),
        settings=player_settings(config.optimizer, config.steps),
        augmentation=preset(config.augment.preset, info.spacing),
        channels=len(info.channel_names) or 1,
        target=config.target,
    )


def _network(net: Any, classes: int) -> nn.Module:
    """The network that ``config.net`` describes."""
    kind = net.get("kind", "resnet")
    if kind == "resnet":
        return ResNet(classes, tuple(net.features), net.blocks)
    if kind == "densenet":
        return DenseNet(classes, net.depth, net.growth)
    if kind not in ("mlp", "cnn"):
        raise ValueError(f"net.kind='{kind}': choose resnet, mlp, cnn or densenet")
    make = MLPClassifier if kind == "mlp" else CNNClassifier
    return make(classes, tuple(net.features))
