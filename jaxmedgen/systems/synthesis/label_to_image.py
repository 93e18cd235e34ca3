"""Label-conditional synthesis: networks and losses of a configuration, see `conditional_gan`."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax

from jaxmedgen.augment.presets import configured
from jaxmedgen.augment.quarter_turns import QuarterTurns
from jaxmedgen.data.case_groups import vendor_names
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.nets.discriminators import MultiScaleDiscriminator, PatchDiscriminator
from jaxmedgen.nets.pix2pix import Pix2PixHD, Pix2PixUNet
from jaxmedgen.nets.spade import SpadeGenerator, xavier_normal
from jaxmedgen.nets.style import StyleEncoder, StyleNet
from jaxmedgen.nets.synthesizer import Synthesizer
from jaxmedgen.nets.unet import UNet
from jaxmedgen.nets.vgg import Vgg
from jaxmedgen.systems.synthesis.conditional_gan import DISCRIMINATOR, FEATURES, LabelToImageGan
from jaxmedgen.systems.synthesis.feature_maps import FeatureMaps
from jaxmedgen.systems.synthesis.rendering import GENERATOR
from jaxmedgen.systems.synthesis.weights import Weights
from jaxmedgen.train.objectives import PlayerSettings
from jaxmedgen.train.optim import optimizer, schedule

GENERATORS = ("spade", "pix2pixhd", "unet")
STYLES = ("none", "noise", "vae", "net")


def build(config: Any, info: DatasetInfo) -> LabelToImageGan:
    """The system of a configuration for a data set.

    Raises:
        ValueError: settings that do not fit each other or the data.
    """
    model = config.model
    if config.data.kind == "short_axis_stack" and config.data.heart_classes != 4:
        raise ValueError(
            f"data.heart_classes={config.data.heart_classes}: stacks of the phantoms have 4 "
            "classes; take data=phantoms for 8"
        )
    shape = network_shape(config, info)
    dtype = jnp.dtype(config.dtype)
    channels = len(info.channel_names)
    if not channels:
        raise ValueError("the data set has label maps but no images: there is nothing to learn")
    names = vendor_names(tuple(config.data.vendors)) if model.vendors else ()
    net = Synthesizer(
        generator=_generator(model, shape, channels, dtype),
        style=_style(model, dtype),
        latent=0 if model.style == "none" else model.latent,
        vendors=len(names) if model.vendors else 0,
    )
    if model.vendors and not net.latent:
        raise ValueError("model.vendors needs latent vectors: set model.style to noise or vae")
    judge = config.discriminator
    patches = PatchDiscriminator(
        features=tuple(judge.features),
        strides=(*[2] * (len(judge.features) - 1), 1),
        kernel_init=xavier_normal(model.init_gain),
        dtype=dtype,
    )
    features = feature_maps(config.features, len(shape), info.num_classes)
    policy = configured(config.augment, info.spacing, info.class_names)
    weights = dict(config.loss) | {"kl": config.loss.kl * config.batch_size}
    if features.kind == "none":
        weights["perceptual"] = 0.0
    turns = config.augment.quarter_turns
    return LabelToImageGan(
        net=net,
        discriminator=MultiScaleDiscriminator(patches, judge.scales),
        features=features,
        optimisers=_optimisers(config, features),
        shape=shape,
        classes=info.num_classes,
        weights=Weights(**weights),
        turns=QuarterTurns(float(turns)) if turns else None,
        augmentation=None if config.augment.preset == "none" else policy,
        scaling=config.intensity,
        vendors=tuple(names.index(v) for v in config.data.vendors) if model.vendors else (),
        vendor_names=names,
        channels=channels,
    )


def network_shape(config: Any, info: DatasetInfo) -> tuple[int, ...]:
    """Size of the images that the networks see: the data's, up to a multiple of the halvings.

    Raises:
        ValueError: the data's shape is not known.
    """
    shape = tuple(config.patch_size) or tuple(config.data.shape)
    if config.data.get("as_slices") and len(shape) == 3:
        shape = tuple(np.delete(shape, config.data.slice_axis).tolist())
    if len(shape) != len(info.spacing):
        raise ValueError(
            f"data.shape={shape} for images of {len(info.spacing)} axes: give the size of each "
            "(--config.data.shape)"
        )
    factor = 2 ** (
        len(config.model.features) - 1 if _is_unet(config.model) else config.model.levels
    )
    return tuple(-(-size // factor) * factor for size in shape)


def feature_maps(settings: Any, dims: int, classes: int) -> FeatureMaps:
    """The feature network of a configuration's ``features`` group.

    Raises:
        ValueError: unknown kind, or no file where one is needed.
    """
    kind = settings.kind
    if kind == "segmenter":
        net = UNet(dims=dims, features=tuple(settings.features), classes=classes, blocks=1)
        return FeatureMaps(kind, net, settings.steps)
    if kind == "random":
        return FeatureMaps(kind, Vgg(settings.features[0]))
    if kind == "file":
        if not settings.file:
            raise ValueError("features.kind='file' needs --config.features.file=VGG19.npz")
        return FeatureMaps(kind, Vgg(64, natural=True), file=settings.file)
    if kind not in ("gradients", "none"):
        raise ValueError(
            f"features.kind='{kind}': choose segmenter, random, file, gradients or none"
        )
    return FeatureMaps(kind)


def _is_unet(model: Any) -> bool:
    return model.generator == "unet"


def _generator(model: Any, shape: tuple[int, ...], channels: int, dtype: Any) -> nn.Module:
    if model.generator == "spade":
        return SpadeGenerator(
            shape=shape,
            width=model.width,
            levels=model.levels,
            blocks=model.blocks,
            channels=channels,
            modulation=model.modulation,
            norm=model.norm,
            hidden=model.hidden,
            init_gain=model.init_gain,
            dtype=dtype,
            remat=model.remat,
        )
    if (model.modulation, model.norm) != ("spade", "batch"):
        raise ValueError(
            f"model.modulation={model.modulation}, model.norm={model.norm}: of SPADE's generator "
            f"alone, {model.generator} has norms of its own"
        )
    if model.generator == "pix2pixhd":
        return Pix2PixHD(
            shape=shape,
            width=model.width,
            levels=model.levels,
            blocks=model.blocks,
            channels=channels,
            init_gain=model.init_gain,
            dtype=dtype,
        )
    if _is_unet(model):
        return Pix2PixUNet(shape, tuple(model.features), channels, dtype=dtype)
    raise ValueError(f"model.generator='{model.generator}': choose one of {', '.join(GENERATORS)}")


def _style(model: Any, dtype: Any) -> nn.Module | None:
    width, levels = model.style_width, model.levels
    if model.style == "vae":
        features = tuple(width * 2**i for i in range(levels))
        return StyleEncoder(model.latent, features, model.init_gain, dtype)
    if model.style == "net":
        return StyleNet(model.latent, width, levels, init_gain=model.init_gain, dtype=dtype)
    if model.style not in STYLES:
        raise ValueError(f"model.style='{model.style}': choose one of {', '.join(STYLES)}")
    return None


def _optimisers(config: Any, features: FeatureMaps) -> dict[str, PlayerSettings]:
    """Adam for both players at rates of their own (TTUR, Heusel et al., NeurIPS 2017)."""
    rate = config.optimizer
    # Half and double of the base rate, as SPADE has it.
    factors = (0.5, 2.0) if rate.two_rates else (1.0, 1.0)
    players = {}
    for name, factor in zip((GENERATOR, DISCRIMINATOR), factors):
        steps = schedule(rate.schedule, factor * rate.learning_rate, config.steps, rate.warmup)
        players[name] = PlayerSettings(
            optimizer(rate.kind, steps, clip_norm=rate.clip_norm or None, b1=rate.b1, b2=rate.b2),
            ema_decay=(rate.ema_decay or None) if name == GENERATOR else None,
        )
    if features.trained:
        until = optax.piecewise_constant_schedule(
            config.features.learning_rate, {features.steps: 0.0}
        )
        players[FEATURES] = PlayerSettings(optax.adam(until))
    elif features.net is not None:
        players[FEATURES] = PlayerSettings(optax.set_to_zero())
    return players
