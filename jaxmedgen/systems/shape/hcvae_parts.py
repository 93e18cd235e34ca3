"""From a configuration to the parts that all models of volumes from planes are made of."""

from typing import Any

import jax.numpy as jnp

from jaxmedgen.augment.plane_views import PlaneAugmentation
from jaxmedgen.data.planes import VIEW_AXES
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.nets.plane_encoders import PlaneEncoders
from jaxmedgen.nets.volume_coding import StridedEncoder, VolumeDecoder
from jaxmedgen.systems.shape.hcvae_task import PlaneTask
from jaxmedgen.train.objectives import PlayerSettings
from jaxmedgen.train.optim import schedule
from jaxmedgen.train.players import player_settings


def task(config: Any, info: DatasetInfo) -> PlaneTask:
    """The task of a configuration.

    Raises:
        ValueError: planes and volume on different grids, or views that do not exist.
    """
    model, shape = config.model, tuple(config.data.shape)
    views = tuple(model.views)
    if not views or len(set(views)) != len(views) or not set(views) <= set(range(len(VIEW_AXES))):
        raise ValueError(
            f"model.views={views}: give each view once, numbers 0 to {len(VIEW_AXES) - 1} for "
            f"{', '.join(info.channel_names)}"
        )
    augment = config.augment
    moved = augment.rotation or augment.translation or tuple(augment.scale) != (1.0, 1.0)
    return PlaneTask(
        shape=shape,
        plane_shape=shape[:2],
        channels=len(VIEW_AXES),
        order=tuple(sorted(views)),
        dropout=model.view_dropout,
        augmentation=PlaneAugmentation(
            VIEW_AXES, tuple(augment.scale), augment.rotation, augment.translation
        )
        if moved
        else None,
    )


def coding(config: Any) -> dict[str, Any]:
    """Encoders and decoder of a configuration: ``planes``, ``volume``, ``decoder``."""
    net = config.net
    shared = {"norm": net.norm, "dtype": jnp.dtype(net.dtype)}
    return {
        "planes": PlaneEncoders(
            tuple(config.model.views),
            tuple(net.features),
            net.embedding,
            config.model.missing,
            **shared,
        ),
        "volume": StridedEncoder(tuple(net.features), net.volume_features, **shared),
        "decoder": VolumeDecoder(
            tuple(config.data.shape), tuple(net.decoder), net.hidden, net.head, **shared
        ),
    }


def player(config: Any, active: Any = None) -> PlayerSettings:
    """Optimiser of a player; `active` (step -> 0 or 1) multiplies its learning rate."""
    rate = config.optimizer
    steps = schedule(rate.schedule, rate.learning_rate, config.steps, rate.warmup)
    rates = steps if active is None else lambda step: active(step) * steps(step)
    return player_settings(rate, config.steps, rates)
