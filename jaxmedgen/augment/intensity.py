"""Intensity transforms: bias field, noise, blur, brightness, contrast, low resolution, gamma.

The functions are deterministic given their parameters, one a sample and channel; `Intensity` says
how these are drawn and `apply_intensity` runs all of them in a fixed order. Images are expected
z-scored, so backgrounds may be negative: gamma and bias field work on the distance to the minimum
and give mean and standard deviation back.

Sources: nnU-Net (Isensee et al. 2021) and its `batchgenerators` for ranges, order and balanced
factors; NiftyNet / TorchIO for the polynomial bias field (Sudre et al. 2017).
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxmedgen.augment.draws import Draw, choose, split_keys, uniform_table
from jaxmedgen.augment.spatial import Parameters
from jaxmedgen.augment.statistics import lift, match_stats, power, value_range
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
        bias: coefficients of a log-polynomial of order `bias_order`, shared by the channels.
        noise: standard deviation of Gaussian noise (nnU-Net calls the number a variance but uses
            it as a standard deviation, as here).
        blur: Gaussian sigma in voxels.
        brightness: factor.
        shift: constant added.
        contrast: factor on the distance to the mean, clipped to the old range.
        low_resolution: resolution over the old one; nearest sampling down, cubic up.
        inverted_gamma: exponent on the inverted image.
        gamma: exponent.
        bias_order: total order of the bias polynomial.
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


def sample_intensity(
    settings: Intensity, keys: Key[Array, " b"], channels: int, axes: int
) -> Parameters:
    """Draws parameters ``[b, channels]`` of each enabled transform, neutral where it is off.

    ``bias`` holds polynomial coefficients ``[b, terms]``; ``noise_keys`` one key a sample.
    """
    terms = len(_exponents(axes, settings.bias_order))
    table_keys, noise_keys = split_keys(keys, 2)
    table = uniform_table(table_keys, len(_NEUTRAL), 1 + 2 * max(channels, terms))
    parameters: Parameters = {"noise_keys": noise_keys}
    for i, (name, neutral) in enumerate(_NEUTRAL.items()):
        setting = getattr(settings, name)
        if setting is not None:
            size = terms if name == "bias" else channels
            balanced = name in _BALANCED
            value = setting(table[:, i], size, neutral=neutral, balanced=balanced)
            parameters[name] = value
    return parameters


def apply_intensity(
    settings: Intensity, parameters: Parameters, image: Float[Array, " b *s c"]
) -> Float[Array, " b *s c"]:
    """Runs the enabled transforms in order; a sample that one leaves alone stays bit-equal."""
    transforms = {
        "bias": lambda x, value: bias_field(x, value, order=settings.bias_order),
        "noise": lambda x, value: gaussian_noise(parameters["noise_keys"], x, value),
        "blur": gaussian_blur,
        "brightness": lambda x, value: x * lift(value, x),
        "shift": lambda x, value: x + lift(value, x),
        "contrast": contrast,
        "low_resolution": low_resolution,
        "inverted_gamma": lambda x, value: -gamma(-x, value),
        "gamma": gamma,
    }
    for name, neutral in _NEUTRAL.items():
        if getattr(settings, name) is not None:
            value = parameters[name]
            on = value != neutral
            image = choose(
                on.any(1) if name == "bias" else on, transforms[name](image, value), image
            )
    return image


def gamma(
    image: Float[Array, " b *s c"],
    exponent: Float[Array, " b c"],
    *,
    retain_stats: bool = True,
) -> Float[Array, " b *s c"]:
    """``((x - min) / (max - min))^g (max - min) + min`` a sample and channel.

    Args:
        image: any intensities.
        exponent: g; below 1 brightens the middle tones.
        retain_stats: shift and scale the result to the mean and standard deviation it had.
    """
    low, high = (lift(value, image) for value in value_range(image))
    extent = jnp.maximum(high - low, 1e-7)
    out = power((image - low) / extent, exponent) * extent + low
    return match_stats(out, image) if retain_stats else out


def contrast(
    image: Float[Array, " b *s c"], factor: Float[Array, " b c"]
) -> Float[Array, " b *s c"]:
    """``(x - mean) f + mean`` clipped to the range that the channel had."""
    low, high = (lift(value, image) for value in value_range(image))
    mean = image.mean(tuple(range(1, image.ndim - 1)), keepdims=True)
    out = (image - mean) * lift(factor, image) + mean
    return jnp.clip(out, low, high)


def bias_field(
    image: Float[Array, " b *s c"],
    coefficients: Float[Array, " b terms"],
    *,
    order: int = 3,
    retain_stats: bool = True,
) -> Float[Array, " b *s c"]:
    """``(x - min) exp(sum_ijk c_ijk X^i Y^j Z^k) + min``, one smooth field for all channels.

    Args:
        image: any intensities.
        coefficients: c, terms ``i + j + k <= order`` in lexicographic order of (i, j, k).
        order: order of the polynomial.
        retain_stats: shift and scale the result to the mean and standard deviation it had.
    """
    low = lift(value_range(image)[0], image)
    field = jnp.exp(log_bias(coefficients, image.shape[1:-1], order=order))
    out = (image - low) * field + low
    return match_stats(out, image) if retain_stats else out


def log_bias(
    coefficients: Float[Array, " b terms"], shape: tuple[int, ...], *, order: int = 3
) -> Float[Array, " b *s 1"]:
    """Polynomial in voxel-centre coordinates that run from -1 to 1 over the volume's faces.

    Raises:
        ValueError: if the number of coefficients does not fit the order.
    """
    exponents = _exponents(len(shape), order)
    if coefficients.shape[1] != len(exponents):
        raise ValueError(
            f"{coefficients.shape[1]} bias coefficients for order {order} in {len(shape)}D: "
            f"give {len(exponents)}"
        )
    at = (slice(None), *np.asarray(exponents).T)
    cube = jnp.zeros((coefficients.shape[0], *(order + 1,) * len(shape))).at[at].set(coefficients)
    powers = [((2 * np.arange(n) + 1) / n - 1)[:, None] ** np.arange(order + 1) for n in shape]
    return apply_matrices(cube[..., None], [p.astype(np.float32) for p in powers])


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


def _exponents(axes: int, order: int) -> list[tuple[int, ...]]:
    return [e for e in itertools.product(range(order + 1), repeat=axes) if sum(e) <= order]


def _fold(x):
    """Channels to the batch: ``[b, *s, c]`` to ``[b c, *s, 1]``."""
    return jnp.moveaxis(x, -1, 1).reshape(-1, *x.shape[1:-1], 1)


def _unfold(x, like):
    return jnp.moveaxis(x.reshape(like.shape[0], like.shape[-1], *like.shape[1:-1]), 1, -1)
