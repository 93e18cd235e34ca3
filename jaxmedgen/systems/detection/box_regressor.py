"""One box round a structure in every image, by regression: the first stage of a cascade.

The box of the label's foreground is regressed with a smooth L1 loss (Girshick, ICCV 2015), as in
scar quantification by cascades (Lustermans et al.): what follows sees a crop round the left
ventricle.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from jaxmedgen.augment.presets import preset
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.nets.box_regression import BoxRegressor
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.train.objectives import LossInputs, LossOutputs, Objective, PlayerSettings
from jaxmedgen.train.players import init_image_player, player_settings
from jaxmedgen.train.state import TrainState
from jaxmedgen.types import Augment, Batch

PLAYER = "regressor"
_BETA = 0.02
"""Part of the image below which an error counts squared."""


@dataclasses.dataclass(frozen=True)
class BoxFinder:
    """A box regressor with its augmentation.

    Attributes:
        net: the network.
        settings: optimiser.
        augmentation: random transform of image and label.
        inside: label values that the box surrounds.
        channels: of the images.
    """

    net: BoxRegressor
    settings: PlayerSettings
    augmentation: Augment
    inside: tuple[int, ...]
    channels: int = 1

    def players(self) -> Mapping[str, PlayerSettings]:
        """One player, the regressor."""
        return {PLAYER: self.settings}

    def init(self, key: PRNGKeyArray, batch: Batch) -> TrainState:
        """Fresh parameters for images of the batch's shape."""
        return init_image_player(key, PLAYER, self.net, self.settings, batch, self.channels)

    def objectives(self) -> tuple[Objective, ...]:
        """Smooth L1 of centre and size."""
        return (Objective("box", (PLAYER,), self._loss),)

    def prepare(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        """Augments image and label together."""
        image, label = self.augmentation(keys, batch["image"], batch["label"])
        return {**batch, "image": image, "label": label}

    def locate(
        self, variables: PlayerVariables, image: Float[Array, "b *s c"]
    ) -> Float[Array, "b d"]:
        """Centre and size of each image's box, in parts of the image."""
        return self.net.apply(variables[PLAYER], image)

    def _loss(self, inputs: LossInputs) -> tuple[Float[Array, ""], LossOutputs]:
        box, there = box_of(inputs.batch["label"], self.inside)
        found = self.net.apply(inputs.variables[PLAYER], inputs.batch["image"])
        error = optax.huber_loss(found, box, delta=_BETA).sum(-1) / _BETA
        # An image without the structure has no box; it counts as one without error.
        value = jnp.where(there, error, 0.0).mean()
        off = jnp.where(there, jnp.abs(found - box).mean(-1), 0.0).mean()
        return value, LossOutputs(metrics={"box_error": jax.lax.stop_gradient(off)})


def box_of(
    label: Int[Array, " b *s"], inside: tuple[int, ...]
) -> tuple[Float[Array, "b d"], Array]:
    """Smallest boxes round some label values: centre, then size, in parts of the image.

    Args:
        label: label maps.
        inside: the label values.

    Returns:
        Boxes ``[b, 2n]`` and, bool ``[b]``, whether there is anything inside.
    """
    mask = jnp.isin(label, jnp.asarray(inside))
    lows, highs = [], []
    for axis in range(1, label.ndim):
        others = tuple(a for a in range(1, label.ndim) if a != axis)
        line, size = mask.any(others), label.shape[axis]
        lows.append(jnp.argmax(line, -1) / size)
        highs.append(1 - jnp.argmax(line[:, ::-1], -1) / size)
    low, high = jnp.stack(lows, -1), jnp.stack(highs, -1)
    return jnp.concatenate([(low + high) / 2, high - low], -1), mask.any(tuple(range(1, mask.ndim)))


def build(config: Any, info: DatasetInfo) -> BoxFinder:
    """The system of a configuration; ``config.inside`` are the label values in the box."""
    return BoxFinder(
        net=BoxRegressor(tuple(config.net.features)),
        settings=player_settings(config.optimizer, config.steps),
        augmentation=preset(config.augment.preset, info.spacing),
        inside=tuple(config.inside),
        channels=len(info.channel_names) or 1,
    )
