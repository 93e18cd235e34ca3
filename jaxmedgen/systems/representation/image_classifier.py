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
from jaxtyping import Array, Float, Key, PRNGKeyArray

from jaxmedgen.augment.class_mixing import mix_classes
from jaxmedgen.augment.draws import fold_keys
from jaxmedgen.augment.mixing import Mixing, sample_mixing
from jaxmedgen.augment.presets import preset
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.losses.mixed_classes import mixed_cross_entropy
from jaxmedgen.nets.feature_extractor import ResNet
from jaxmedgen.nets.image_classifiers import CNNClassifier, DenseNet, MLPClassifier
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.train.objectives import LossInputs, LossOutputs, Objective, PlayerSettings
from jaxmedgen.train.players import init_image_player, player_settings
from jaxmedgen.train.state import TrainState
from jaxmedgen.types import Augment, Batch

PLAYER = "classifier"
_MIXING = 3  # folded into keys that the other stages use too


@dataclasses.dataclass(frozen=True)
class ImageClassifier:
    """A classifier with its augmentation.

    Attributes:
        net: the network; its outputs have ``logits``.
        settings: optimiser and weight averaging.
        augmentation: random transform of the images.
        channels: of the images.
        target: key of the batch that holds the images' classes.
        mixing: mixup or cutmix of images, whose classes share the loss; or None.
    """

    net: nn.Module
    settings: PlayerSettings
    augmentation: Augment
    channels: int = 1
    target: str = "target"
    mixing: Mixing | None = None

    def players(self) -> Mapping[str, PlayerSettings]:
        """One player, the classifier."""
        return {PLAYER: self.settings}

    def init(self, key: PRNGKeyArray, batch: Batch) -> TrainState:
        """Fresh parameters for images of the batch's shape."""
        return init_image_player(key, PLAYER, self.net, self.settings, batch, self.channels)

    def objectives(self) -> tuple[Objective, ...]:
        """Softmax cross-entropy, of both classes where images are mixed."""
        return (Objective("classification", (PLAYER,), self._loss),)

    def prepare(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        """Augments the images; label maps, where there are any, move along and are not used."""
        image = batch["image"]
        label = batch.get("label", jnp.zeros(image.shape[:-1], jnp.int32))
        batch = {**batch, "image": self.augmentation(keys, image, label)[0]}
        if self.mixing is None:
            return batch
        parameters = sample_mixing(self.mixing, fold_keys(keys, _MIXING), image.ndim - 2)
        mixed = mix_classes(self.mixing, parameters, batch["image"], batch[self.target])
        return {
            **batch,
            "image": mixed.image,
            "mixed_target": mixed.other,
            "mixed_weight": mixed.weight,
        }

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
        mixture = batch.get("mixed_target", target), batch.get("mixed_weight", 1.0)
        losses = mixed_cross_entropy(outputs.logits, target, *mixture)
        right = (jnp.argmax(outputs.logits, -1) == target).mean(dtype=jnp.float32)
        return losses.mean(), LossOutputs(metrics={"accuracy": right}, variables={PLAYER: updated})


def build(config: Any, info: DatasetInfo) -> ImageClassifier:
    """The system of a configuration; ``config.targets`` names the classes."""
    policy = preset(config.augment.preset, info.spacing, classes=len(config.targets))
    if policy.moment_exchange is not None or policy.feature_mixup is not None:
        raise ValueError(
            f"augment.preset={config.augment.preset!r} mixes features, which these networks "
            "do not: choose a policy without moex and manifold_mixup"
        )
    return ImageClassifier(
        net=_network(config.net, len(config.targets)),
        settings=player_settings(config.optimizer, config.steps),
        augmentation=dataclasses.replace(policy, mixing=None),
        channels=len(info.channel_names) or 1,
        target=config.target,
        mixing=policy.mixing,
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
