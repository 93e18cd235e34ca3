"""What a configuration of the ladder VAE of shapes is built of."""

from typing import Any

import jax.numpy as jnp
import optax

from jaxmedgen.augment.shape_masks import ShapeAugmentation
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.nets.ladder import LadderVAE, ShapePredictor
from jaxmedgen.train.objectives import PlayerSettings
from jaxmedgen.train.players import player_settings

AUGMENTATIONS = {"none": None, "shapes": ShapeAugmentation()}
"""By ``config.augment.preset``."""


def ladder_nets(config: Any, info: DatasetInfo) -> tuple[LadderVAE, ShapePredictor]:
    """The model of shapes, a channel a phase or organ, and its classifier.

    Raises:
        ValueError: label maps without a table of classes.
    """
    if config.data.kind == "folder" and not info.channel_names:
        raise ValueError(
            f"config.data.folder='{config.data.folder}' holds label maps without classes: add the "
            "table classes.csv (case,class)"
        )
    net = dict(config.net)
    if isinstance(net.get("dtype"), str):
        net["dtype"] = jnp.dtype(net["dtype"])
    for name in ("latents", "hidden", "features"):
        net[name] = tuple(net[name])
    hidden = net.pop("predictor")
    model = LadderVAE(shape=tuple(config.data.shape), channels=len(info.channel_names) or 1, **net)
    classes = len(config.targets)
    return model, ShapePredictor(classes, hidden, model.momentum, model.deviation)


def shape_augmentation(config: Any) -> ShapeAugmentation | None:
    """The augmentation of a configuration; runs from before there was one have none.

    Raises:
        ValueError: an unknown one.
    """
    preset = config.get("augment", {"preset": "none"})["preset"]
    if preset not in AUGMENTATIONS:
        raise ValueError(f"config.augment.preset='{preset}': choose {' or '.join(AUGMENTATIONS)}")
    return AUGMENTATIONS[preset]


def player(rate: Any, steps: int) -> PlayerSettings:
    """Optimiser of a player; the schedule ``steps`` multiplies the rate at every boundary.

    Args:
        rate: the ``optimizer`` group of a configuration.
        steps: that the player is trained.
    """
    if rate.schedule != "steps":
        return player_settings(rate, steps)
    values = dict(zip(rate.boundaries, rate.factors))
    learning_rate = optax.piecewise_constant_schedule(rate.learning_rate, values)
    return player_settings(rate, steps, learning_rate)
