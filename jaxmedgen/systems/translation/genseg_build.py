"""GenSeg and its baselines from a configuration."""

from typing import Any

import jax.numpy as jnp
import optax

from jaxmedgen.augment.policy import Augmentation
from jaxmedgen.augment.presets import configured
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.losses.adversarial import KINDS
from jaxmedgen.nets.discriminators import MultiScaleDiscriminator, PatchDiscriminator
from jaxmedgen.nets.genseg import DomainDiscriminators, StatisticsNetwork, TranslationNet
from jaxmedgen.nets.genseg_decoder import Decoder
from jaxmedgen.nets.genseg_encoder import Encoder
from jaxmedgen.systems.translation.genseg_baselines import BaselineNet, SemiSupervised
from jaxmedgen.systems.translation.genseg_terms import Stage, Weights, four_stages
from jaxmedgen.train.idle import hold_idle
from jaxmedgen.train.objectives import PlayerSettings
from jaxmedgen.train.optim import optimizer, schedule


def parts(config: Any, info: DatasetInfo) -> dict[str, Any]:
    """The fields of `GenSeg`.

    Raises:
        ValueError: settings that do not fit each other or the data.
    """
    net, loss, classes = config.net, config.loss, info.num_classes
    _check(config, classes)
    channels, domains = len(info.channel_names) or 1, net.domains
    shared = _shared(net, channels)
    widths = tuple(reversed(net.features[:-1]))
    pooling = net.long_skips == "places"
    encoder = Encoder(tuple(net.features), pooling, net.spectral, shared["dtype"])
    common = Decoder(widths, long_skips=net.long_skips, **shared)
    modes = ("translation",) if net.separate else ("translation", "segmentation")
    residual = Decoder(
        widths,
        classes=1 if domains > 1 else classes - 1,
        modes=modes,
        switch=net.switch,
        taps=net.residual_taps,
        short_skips=net.residual_short_skips,
        long_skips=net.long_skips,
        domains=domains,
        **shared,
    )
    separate = _segmenter(net, classes, shared) if net.separate else None
    weights = Weights(**dict(loss.weights))
    stages = four_stages(config.steps, weights) if loss.staged else (Stage(0, weights),)
    if loss.weight_sum:
        stages = tuple(s._replace(weights=s.weights.rescaled(loss.weight_sum)) for s in stages)
    players = ["generator", "discriminator"]
    if weights.place:
        players.append("locator")
    if separate is not None:
        players.append("segmenter")
    measured = loss.weights.information or loss.get("measure_information", False)
    estimator = StatisticsNetwork(tuple(net.estimator)) if measured else None
    reversal = None
    if loss.reversal:
        players.append("reversal")
        narrow = tuple(max(w // 2, 4) for w in widths)
        reversal = Decoder(narrow, long_skips="none", **{**shared, "spectral": False})
    if estimator is not None:
        players.append("estimator")
    names = ("presence",) if domains == 1 else tuple(info.class_names[1:])
    return {
        "net": TranslationNet(encoder, common, residual, net.unique, classes, net.split, domains),
        "discriminators": _discriminators(net, domains, shared["dtype"], net.scales),
        "locators": _discriminators(net, 1, shared["dtype"], 1) if weights.place else None,
        "placed": net.placed,
        "settings": {name: _player(config, name) for name in players},
        "stages": stages,
        "augmentation": _augmentation(config, info),
        "domain_names": ("absence", *names),
        "segmenter": separate,
        "estimator": estimator,
        "reversal": reversal,
        "gan": loss.gan,
        "penalty": loss.penalty,
        "penalty_kind": loss.penalty_kind,
        "cycle": loss.cycle,
        "joint_latent": loss.joint_latent,
        "reversal_weight": loss.reversal,
        "reversal_ramp": max(1, config.steps // 4),
        "clip": config.clip,
        "remat": net.remat,
    }


def baseline(config: Any, info: DatasetInfo) -> SemiSupervised:
    """Segmentation alone, or beside an autoencoder or a mean teacher."""
    net, loss, classes = config.net, config.baseline, info.num_classes
    shared = _shared(net, len(info.channel_names) or 1)
    widths = tuple(reversed(net.features[:-1]))
    decoder = Decoder(widths, long_skips="none", **shared) if loss.reconstruction else None
    encoder = Encoder(
        tuple(net.features), net.long_skips == "places", net.spectral, shared["dtype"]
    )
    return SemiSupervised(
        net=BaselineNet(encoder, _segmenter(net, classes, shared), decoder, classes),
        settings=_player(config, "segmenter", loss.ema_decay or None),
        augmentation=_augmentation(config, info),
        segmentation=loss.segmentation,
        reconstruction=loss.reconstruction,
        consistency=loss.consistency,
        ramp=max(1, config.steps // 4),
        noise=loss.noise,
        clip=config.clip,
    )


def _augmentation(config: Any, info: DatasetInfo) -> Augmentation:
    policy = configured(config.augment, info.spacing, info.class_names)
    if policy.mixing is not None and policy.mixing.soft:
        raise ValueError(
            f"augment.preset={config.augment.preset!r} makes soft labels, which GenSeg does not "
            "take: choose a policy without mixup"
        )
    return policy


def _shared(net: Any, channels: int) -> dict[str, Any]:
    dtype = jnp.dtype(net.dtype)
    dtype = None if dtype == jnp.float32 else dtype
    return {"channels": channels, "spectral": net.spectral, "dtype": dtype}


def _segmenter(net: Any, classes: int, shared: dict[str, Any]) -> Decoder:
    return Decoder(
        tuple(reversed(net.features[:-1])),
        classes=classes - 1,
        modes=("segmentation",),
        long_skips=net.long_skips,
        **shared,
    )


def _discriminators(net: Any, domains: int, dtype: Any, scales: int) -> DomainDiscriminators:
    def multi_scale(outputs):
        one = PatchDiscriminator(
            tuple(net.discriminator),
            (2,) * len(net.discriminator),
            norm="layer",
            padding=1,
            head_kernel=1,
            spectral=net.spectral,
            spectral_ends=True,
            outputs=outputs,
            dtype=dtype,
        )
        return MultiScaleDiscriminator(one, scales)

    return DomainDiscriminators(multi_scale(domains), multi_scale(1))


def _player(config: Any, name: str, ema_decay: float | None = None) -> PlayerSettings:
    rate = config.optimizer
    peak = rate.discriminator_rate if name == "discriminator" else rate.learning_rate
    # The rate follows the run's steps, moments and their counts those in which an array takes part.
    inner = optimizer(rate.kind, 1.0, weight_decay=rate.weight_decay, b1=rate.b1, b2=rate.b2)
    steps = schedule(rate.schedule, peak, config.steps, rate.warmup)
    made = optax.chain(hold_idle(inner), optax.scale_by_schedule(steps))
    if rate.clip_norm:
        made = optax.chain(optax.clip_by_global_norm(rate.clip_norm), made)
    return PlayerSettings(made, ema_decay)


def _check(config: Any, classes: int) -> None:
    net, loss = config.net, config.loss
    if net.domains > 1 and net.domains != classes - 1:
        raise ValueError(
            f"net.domains={net.domains} for {classes - 1} foreground classes: give one domain a "
            "class, or 1 for all of them"
        )
    if net.unique % net.domains or not 0 < net.unique < net.features[-1]:
        raise ValueError(
            f"net.unique={net.unique} must lie between 0 and the code's {net.features[-1]} "
            f"channels and divide into {net.domains} domain(s)"
        )
    if net.domains > 1 and net.separate:
        raise ValueError("net.separate: with several domains the residual decoder segments")
    if not net.split and (net.domains > 1 or loss.weights.information or loss.reversal):
        raise ValueError("net.split=False has no unique part: no domains, information or reversal")
    if loss.gan not in KINDS:
        raise ValueError(f"loss.gan='{loss.gan}': choose one of {', '.join(KINDS)}")
    if loss.cycle not in ("apa", "pap"):
        raise ValueError(f"loss.cycle='{loss.cycle}': choose apa or pap")
