"""Cardiac MR contrast of four made-up vendors: from tissue maps to slices.

Tissue means, bias field, texture, partial volume and Rician noise, as in the phantom of the sheet
on label-conditional cardiac synthesis: A has bright blood and pale muscle, B high contrast, C an
inverted background and noise. D is kept for tests: flat contrast, strong bias and blur.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from jaxmedgen.data.phantoms.scanner import bias_field, rician


@dataclasses.dataclass(frozen=True)
class Vendor:
    """A scanner's contrast.

    Attributes:
        means: signal of background, LV blood, LV myocardium, RV blood, chest wall, lung, liver and
            fat; full scale is 1.
        spread: relative standard deviation of each mean between subjects.
        bias: standard deviation of the log of the bias field.
        texture: relative standard deviation of the signal within a tissue.
        grain: width of the texture in pixels (sigma of its filter).
        blur: partial volume, sigma in pixels.
        noise: sigma of the Rician noise.
    """

    means: tuple[float, float, float, float, float, float, float, float]
    spread: float = 0.04
    bias: float = 0.06
    texture: float = 0.06
    grain: float = 1.2
    blur: float = 0.7
    noise: float = 0.02


STYLES: Mapping[str, Vendor] = {
    "A": Vendor((0.02, 0.85, 0.58, 0.80, 0.50, 0.12, 0.56, 0.72)),
    "B": Vendor((0.02, 0.92, 0.22, 0.86, 0.34, 0.06, 0.40, 0.62)),
    "C": Vendor((0.02, 0.66, 0.36, 0.62, 0.74, 0.52, 0.14, 0.16), texture=0.08, noise=0.05),
    "D": Vendor((0.03, 0.60, 0.40, 0.56, 0.30, 0.16, 0.46, 0.85), bias=0.15, blur=1.0, noise=0.03),
}
"""Contrasts chosen by eye after the descriptions above, not fitted to scans."""

VENDORS = ("A", "B", "C", "D")


def draw_means(rng: np.random.Generator, vendor: str) -> Float[np.ndarray, "8"]:
    """Tissue signals of one subject, the vendor's up to its spread.

    Raises:
        ValueError: unknown vendor.
    """
    style = _style(vendor)
    factors = 1 + style.spread * rng.standard_normal(len(style.means))
    return (np.asarray(style.means) * np.maximum(factors, 0.1)).astype(np.float32)


def acquire(
    rng: np.random.Generator, signal: Float[np.ndarray, "h w"], vendor: str
) -> Float[np.ndarray, "h w"]:
    """A slice of given signals as a vendor's scanner shows it, float32 in [0, 1].

    Args:
        rng: random generator.
        signal: undisturbed signal of every pixel, full scale is 1.
        vendor: one of `VENDORS`.

    Raises:
        ValueError: unknown vendor.
    """
    style = _style(vendor)
    texture = ndimage.gaussian_filter(rng.standard_normal(signal.shape), style.grain)
    texture /= max(float(texture.std()), 1e-6)
    image = signal * (1 + style.texture * texture) * bias_field(rng, signal.shape, style.bias)
    image = ndimage.gaussian_filter(image, style.blur, mode="nearest")
    return np.clip(rician(rng, image.astype(np.float32), style.noise), 0, 1)


def render(
    rng: np.random.Generator,
    tissues: Int[np.ndarray, "h w"],
    vendor: str,
    means: Float[np.ndarray, "8"] | None = None,
) -> Float[np.ndarray, "h w"]:
    """A slice of a tissue map, float32 in [0, 1].

    Args:
        rng: random generator.
        tissues: values 0..7 as in `short_axis.TISSUES`.
        vendor: one of `VENDORS`.
        means: signal of each tissue, for slices of one subject; `draw_means` by default.

    Raises:
        ValueError: unknown vendor.
    """
    means = draw_means(rng, vendor) if means is None else means
    return acquire(rng, np.asarray(means, np.float32)[tissues], vendor)


def _style(vendor: str) -> Vendor:
    if vendor not in STYLES:
        raise ValueError(f"unknown vendor '{vendor}': choose one of {', '.join(VENDORS)}")
    return STYLES[vendor]
