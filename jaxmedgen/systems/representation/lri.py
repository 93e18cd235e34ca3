"""Texture classification that does not depend on rotation.

The toy network of Andrearczyk et al. 2019: LRI convolution, rectifier, global mean, linear layer;
softmax cross-entropy. It shows what a layer can tell apart whatever the rotation. Beside it the
group-convolution classifier of Worrall & Brostow 2018 (`nets/cubenet.py`). The label of an image is
one number.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, PRNGKeyArray

from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.nets.cubenet import CubeNet
from jaxmedgen.nets.harmonic_layers import LRIConv, LRINet
from jaxmedgen.ops.groups import check_spacing, point_group
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.train.objectives import LossInputs, LossOutputs, Objective, PlayerSettings
from jaxmedgen.train.players import player_settings
from jaxmedgen.train.state import TrainState, create_state
from jaxmedgen.types import Batch

PLAYER = "classifier"


@dataclasses.dataclass(frozen=True)
class TextureClassifier:
    """A classifier of 3D textures.

    Attributes:
        net: the network.
        settings: optimiser.
    """

    net: LRINet | CubeNet
    settings: PlayerSettings

    def players(self) -> Mapping[str, PlayerSettings]:
        """One player, the classifier."""
        return {PLAYER: self.settings}

    def init(self, key: PRNGKeyArray, batch: Batch) -> TrainState:
        """A fresh state; the batch gives shapes only."""
        init_key, run_key = jax.random.split(key)
        variables = self.net.init(init_key, jnp.zeros_like(batch["image"][:1]))
        return create_state(run_key, {PLAYER: variables}, self.players())

    def objectives(self) -> tuple[Objective, ...]:
        """Softmax cross-entropy."""
        return (Objective("classification", (PLAYER,), self._loss),)

    def prepare(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        """The batch as it is."""
        return batch

    def classify(
        self, variables: PlayerVariables, image: Float[Array, "b *s c"]
    ) -> Float[Array, "b k"]:
        """Class probabilities."""
        return jax.nn.softmax(self.net.apply(variables[PLAYER], image))

    def _loss(self, inputs: LossInputs) -> tuple[Float[Array, ""], LossOutputs]:
        label, image = inputs.batch["label"], inputs.batch["image"]
        variables, updated = inputs.variables[PLAYER], {}
        if isinstance(self.net, CubeNet):
            logits, updated = self.net.apply(
                variables, image, True, inputs.keys, inputs.key, mutable=["batch_stats"]
            )
        else:
            logits = self.net.apply(variables, image)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()
        accuracy = (jnp.argmax(logits, -1) == label).mean(dtype=jnp.float32)
        variables = {PLAYER: updated} if updated else {}
        return loss, LossOutputs(metrics={"accuracy": accuracy}, variables=variables)


def build(config: Any, info: DatasetInfo) -> TextureClassifier:
    """The system of a configuration for a data set.

    Raises:
        ValueError: the images are not 3D with the voxels that the layer needs.
    """
    if len(info.spacing) != 3:
        raise ValueError(f"spacing {info.spacing}: the layers are 3D, give 3D images")
    if config.net.kind == "cubenet":
        settings = {name: value for name, value in config.net.items() if name != "kind"}
        group = point_group(settings.pop("group"))
        check_spacing(group, info.spacing)
        net = CubeNet(group, info.num_classes, **settings)
    else:
        net = LRINet(info.num_classes, LRIConv(spacing=info.spacing, **config.net))
    return TextureClassifier(net=net, settings=player_settings(config.optimizer, config.steps))
