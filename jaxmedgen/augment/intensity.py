"""Intensity transforms: bias field, noise, blur, brightness, contrast, low resolution, gamma.

The functions are deterministic given their parameters, one a sample and channel; `Intensity` says
how these are drawn and `apply_intensity` runs all of them in a fixed order. Images are expected
z-scored, so backgrounds may be negative: gamma and bias field work on the distance to the minimum
and give mean and standard deviation back. A mask keeps the air around a head out of the statistics
and its value as it is.

Sources: nnU-Net (Isensee et al. 2021) and its `batchgenerators` for ranges, order and balanced
factors; `bias.py` for the bias field.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxmedgen.augment.bias import BiasBasis, bias_field, bias_terms
from jaxmedgen.augment.draws import Draw, choose, fold_keys, split_keys, uniform_table
from jaxmedgen.augment.spatial import Parameters
from jaxmedgen.augment.statistics import Mask, lift, match_stats, moments, power, value_range
from jaxmedgen.ops.filters import gaussian_filter
from jaxmedgen.ops.resize import apply_matrices, low_resolution_matrix

_NEUTRAL = {
    "bias": 0.0,
    "noise": 0.0,
    "blur": 0.0,
    "brightness": 1.0,
    "shift": 0.0,
    "contrast": 1.0,
    "low_resolution": 1.0,
    "inverted_gamma": 1.0,
    "gamma": 1.0,
}  # in the order of application
_BALANCED = ("brightness", "contrast", "inverted_gamma", "gamma")


@dataclasses.dataclass(frozen=True)
class Intensity:
    """Settings of the intensity stage; what is left at None is not computed.

    Every transform has its own range and probability a sample; values are drawn a channel.

    Attributes:
        bias: coefficients of the log bias field, see `bias.log_bias`.
        noise: standard deviation of Gaussian noise (nnU-Net calls the number a variance but uses
            it as a standard deviation, as here).
        blur: Gaussian sigma in voxels.
        brightness: factor.
        shift: constant added.
        contrast: factor on the distance to the mean, clipped to the old range.
        low_resolution: resolution over the old one; nearest sampling down, cubic up.
        inverted_gamma: exponent on the inverted image.
        gamma: exponent.
        bias_order: total order of the bias polynomial, or B-spline control points an axis.
        bias_basis: ``monomial``, ``legendre`` or ``bspline``.
        bias_per_channel: a field for each channel; shared is the case of channels of one coil.
        retain_stats: whether gamma and bias field give mean and standard deviation back.
    """

    bias: Draw | None = None
    noise: Draw | None = None
    blur: Draw | None = None
    brightness: Draw | None = None
    shift: Draw | None = None
    contrast: Draw | None = None
    low_resolution: Draw | None = None
    inverted_gamma: Draw | None = None
    gamma: Draw | None = None
    bias_order: int = 3
    bias_basis: BiasBasis = "monomial"
    bias_per_channel: bool = False
    retain_stats: bool = True


def sample_intensity(
    settings: Intensity, keys: Key[Array, " b"], channels: int, axes: int
) -> Parameters:
    """Draws parameters ``[b, channels]`` of each enabled transform, neutral where it is off.

    ``bias`` holds coefficients ``[b, terms]`` (``[b, terms, channels]`` a channel); ``noise_keys``
    one key a sample.
    """
    table_keys, noise_keys = split_keys(keys, 2)
    table = uniform_table(table_keys, len(_NEUTRAL), 1 + 2 * channels)
    parameters: Parameters = {"noise_keys": noise_keys}
    for i, (name, neutral) in enumerate(_NEUTRAL.items()):
        setting = getattr(settings, name)
        if setting is not None and name != "bias":
            balanced = name in _BALANCED
            parameters[name] = setting(table[:, i], channels, neutral=neutral, balanced=balanced)
    if settings.bias is not None:
        terms = bias_terms(axes, settings.bias_order, settings.bias_basis)
        size = terms * (channels if settings.bias_per_channel else 1)
        row = uniform_table(fold_keys(table_keys, 1), 1, 1 + 2 * size)[:, 0]
        value = settings.bias(row, size, neutral=0.0)
        parameters["bias"] = value.reshape(-1, terms, channels) if size > terms else value
    return parameters


def apply_intensity(
    settings: Intensity,
    parameters: Parameters,
    image: Float[Array, " b *s c"],
    mask: Mask = None,
) -> Float[Array, " b *s c"]:
    """Runs the enabled transforms in order; a sample that one leaves alone stays bit-equal.

    Args:
        settings: what is enabled.
        parameters: of `sample_intensity`.
        image: any intensities.
        mask: voxels that statistics are taken over and that change; the others keep their values.
    """
    keep = settings.retain_stats
    transforms = {
        "bias": lambda x, value: bias_field(
            x,
            value,
            order=settings.bias_order,
            basis=settings.bias_basis,
            retain_stats=keep,
            mask=mask,
        ),
        "noise": lambda x, value: gaussian_noise(parameters["noise_keys"], x, value),
        "blur": gaussian_blur,
        "brightness": lambda x, value: x * lift(value, x),
        "shift": lambda x, value: x + lift(value, x),
        "contrast": lambda x, value: contrast(x, value, mask=mask),
        "low_resolution": low_resolution,
        "inverted_gamma": lambda x, value: -gamma(-x, value, retain_stats=keep, mask=mask),
        "gamma": lambda x, value: gamma(x, value, retain_stats=keep, mask=mask),
    }
    for name, neutral in _NEUTRAL.items():
        if getattr(settings, name) is not None:
            value = parameters[name]
            on = value != neutral
            if name == "bias":
                on = on.any(1)
            image = choose(on, transforms[name](image, value), image, mask)
    return image


def gamma(
    image: Float[Array, " b *s c"],
    exponent: Float[Array, " b c"],
    *,
    retain_stats: bool = True,
    mask: Mask = None,
) -> Float[Array, " b *s c"]:
    """``((x - min) / (max - min))^g (max - min) + min`` a sample and channel.

    Args:
        image: any intensities.
        exponent: g; below 1 brightens the middle tones.
        retain_stats: shift and scale the result to the mean and standard deviation it had.
        mask: voxels that range and statistics are taken over.
    """
    low, high = (lift(value, image) for value in value_range(image, mask))
    extent = jnp.maximum(high - low, 1e-7)
    out = power((image - low) / extent, exponent) * extent + low
    return match_stats(out, image, mask) if retain_stats else out


def contrast(
    image: Float[Array, " b *s c"], factor: Float[Array, " b c"], *, mask: Mask = None
) -> Float[Array, " b *s c"]:
    """``(x - mean) f + mean`` clipped to the range that the channel had, within the mask if any."""
    low, high = (lift(value, image) for value in value_range(image, mask))
    mean, _ = moments(image, mask)
    out = (image - mean) * lift(factor, image) + mean
    return jnp.clip(out, low, high)


def gaussian_noise(
    keys: Key[Array, " b"], image: Float[Array, " b *s c"], deviation: Float[Array, " b c"]
) -> Float[Array, " b *s c"]:
    """Adds white noise of a standard deviation a sample and channel."""
    noise = jax.vmap(lambda key: jax.random.normal(key, image.shape[1:]))(keys)
    return image + noise * lift(deviation, image)


def gaussian_blur(
    image: Float[Array, " b *s c"], sigma: Float[Array, " b c"]
) -> Float[Array, " b *s c"]:
    """Gaussian smoothing with a sigma in voxels a sample and channel."""
    return _unfold(gaussian_filter(_fold(image), sigma.reshape(-1)), image)


def low_resolution(
    image: Float[Array, " b *s c"], zoom: Float[Array, " b c"]
) -> Float[Array, " b *s c"]:
    """Nearest sampling down to `zoom` of the resolution, cubic interpolation back up."""
    matrix = jax.vmap(low_resolution_matrix, in_axes=(None, 0))
    matrices = [matrix(size, zoom.reshape(-1)) for size in image.shape[1:-1]]
    return _unfold(apply_matrices(_fold(image), matrices), image)


def _fold(x):
    """Channels to the batch: ``[b, *s, c]`` to ``[b c, *s, 1]``."""
    return jnp.moveaxis(x, -1, 1).reshape(-1, *x.shape[1:-1], 1)


def _unfold(x, like):
    return jnp.moveaxis(x.reshape(like.shape[0], like.shape[-1], *like.shape[1:-1]), 1, -1)
