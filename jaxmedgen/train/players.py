"""A player from the settings of a configuration's ``optimizer`` group."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import PRNGKeyArray

from jaxmedgen.train.objectives import PlayerSettings
from jaxmedgen.train.optim import optimizer, schedule
from jaxmedgen.train.state import TrainState, create_state
from jaxmedgen.types import Batch


def player_settings(
    rate: Any, steps: int, learning_rate: optax.Schedule | None = None
) -> PlayerSettings:
    """Optimiser with its schedule, clipping, weight decay and weight averaging.

    Args:
        rate: ``kind``, ``clip_norm`` and ``ema_decay``, 0 for none; ``schedule``,
            ``learning_rate`` and ``warmup``; perhaps ``weight_decay``, ``end`` (of a cosine),
            ``b1`` and ``b2``.
        steps: of the training.
        learning_rate: a schedule in place of the settings'.

    Raises:
        ValueError: an unknown optimiser or schedule, or a warm-up as long as the training.
    """
    if learning_rate is None:
        learning_rate = schedule(
            rate.schedule, rate.learning_rate, steps, rate.warmup, rate.get("end", 0.0)
        )
    known = {name: rate[name] for name in ("weight_decay", "b1", "b2") if name in rate}
    return PlayerSettings(
        optimizer(rate.kind, learning_rate, clip_norm=rate.clip_norm or None, **known),
        ema_decay=rate.ema_decay or None,
    )


def init_image_player(
    key: PRNGKeyArray,
    name: str,
    net: nn.Module,
    settings: PlayerSettings,
    batch: Batch,
    channels: int,
) -> TrainState:
    """Fresh state of the only player, a network of images of the batch's shape.

    Args:
        key: of the parameters and of the run.
        name: of the player.
        net: takes images ``[b, *space, channels]``.
        settings: of the player.
        batch: its ``image`` gives the shape.
        channels: of the images.
    """
    image = jnp.zeros((1, *batch["image"].shape[1:-1], channels), jnp.float32)
    init_key, run_key = jax.random.split(key)
    return create_state(run_key, {name: net.init(init_key, image)}, {name: settings})
