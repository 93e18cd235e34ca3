"""From tissue maps to an MR image: contrasts, scanners (sites), bias field, Rician noise.

Sources: H. Gudbjartsson and S. Patz, "The Rician distribution of noisy MRI data", MRM 34 (1995);
B. Billot et al., "SynthSeg", Medical Image Analysis 86 (2023), for the order of the steps
(intensities, bias, resolution, noise).
"""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from jaxmedgen.data.phantoms.template import Grid, smooth

CONTRASTS: Mapping[str, Mapping[str, float]] = {
    "t1": {
        "csf": 0.16, "ventricle": 0.14, "cortex": 0.52, "white": 0.86, "deep": 0.62,
        "cerebellar_grey": 0.54, "cerebellar_white": 0.84, "stem": 0.80, "fluid": 0.14,
        "bone": 0.06, "marrow": 0.58, "muscle": 0.44, "fat": 0.98,
        "lesion": 0.50, "core": 0.25, "rim": 0.55, "texture": 1.0,
    },
    "t1ce": {
        "csf": 0.16, "ventricle": 0.14, "cortex": 0.54, "white": 0.84, "deep": 0.63,
        "cerebellar_grey": 0.56, "cerebellar_white": 0.82, "stem": 0.79, "fluid": 0.14,
        "bone": 0.06, "marrow": 0.62, "muscle": 0.48, "fat": 0.98,
        "lesion": 0.52, "core": 0.25, "rim": 1.10, "texture": 1.0,
    },
    "t2": {
        "csf": 1.00, "ventricle": 1.05, "cortex": 0.55, "white": 0.36, "deep": 0.44,
        "cerebellar_grey": 0.55, "cerebellar_white": 0.38, "stem": 0.40, "fluid": 1.05,
        "bone": 0.05, "marrow": 0.36, "muscle": 0.22, "fat": 0.72,
        "lesion": 0.74, "core": 0.95, "rim": 0.66, "texture": -0.8,
    },
    "flair": {
        "csf": 0.12, "ventricle": 0.07, "cortex": 0.62, "white": 0.46, "deep": 0.54,
        "cerebellar_grey": 0.60, "cerebellar_white": 0.48, "stem": 0.47, "fluid": 0.08,
        "bone": 0.05, "marrow": 0.34, "muscle": 0.30, "fat": 0.62,
        "lesion": 0.92, "core": 0.40, "rim": 0.80, "texture": -0.5,
    },
}  # fmt: skip
"""Signal of pure structures (arbitrary units, chosen by eye, not fitted to scans).

``texture`` weighs the template's own texture.
"""

BIAS_ORDER = 4
"""Cosines an axis in the bias field: none shorter than half the box's length."""


@dataclasses.dataclass(frozen=True)
class Site:
    """A scanner and its protocol.

    Attributes:
        contrast: spread of the tissue signals round cortical grey matter; 1 keeps the table's.
        gamma: exponent on the signal, of tissues between air (0) and fat (1).
        noise: sigma of the Rician noise, in table units (white matter on T1 is 0.86).
        bias: standard deviation of the log of the bias field.
        fwhm: extra blur an axis in mm (in-plane filter, thick slices).
        texture: weight of the within-tissue texture.
        spread: relative standard deviation of each structure's signal between subjects.
    """

    contrast: float = 1.0
    gamma: float = 1.0
    noise: float = 0.025
    bias: float = 0.12
    fwhm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    texture: float = 1.0
    spread: float = 0.03


SITES: Mapping[str, Site] = {
    # a: a research 3 T scanner; b: a clinical 1.5 T one, flatter contrast and thick axial slices;
    # c: a 7 T one, steep contrast and strong bias; d: low field, noisy and blurred.
    "a": Site(),
    "b": Site(contrast=0.8, gamma=0.8, noise=0.05, bias=0.15, fwhm=(2.0, 2.0, 6.0), spread=0.04),
    "c": Site(contrast=1.15, gamma=1.25, noise=0.03, bias=0.28, spread=0.04),
    "d": Site(contrast=0.75, gamma=1.0, noise=0.07, bias=0.10, fwhm=(5.0, 5.0, 5.0), spread=0.05),
}
"""Made-up scanners in the manner of the kinds named.

Train on one and test on another to see a site shift.
"""


@functools.lru_cache(maxsize=32)
def _cosines(n: int) -> Float[np.ndarray, "o n"]:
    phase = np.pi * (np.arange(n) + 0.5) / n
    return np.cos(np.arange(BIAS_ORDER)[:, None] * phase).astype(np.float32)


def bias_field(
    rng: np.random.Generator, shape: tuple[int, ...], strength: float
) -> Float[np.ndarray, "*s"]:
    """A smooth positive gain: exp of a random low-order cosine series, standard deviation given."""
    order = np.indices((BIAS_ORDER,) * len(shape))
    total = order.sum(0)
    decay = np.where((total > 0) & (total < BIAS_ORDER), 1 / np.maximum(total, 1), 0.0)
    # A cosine has mean square 1/2 on each axis where it is not constant.
    power = decay**2 * 0.5 ** np.sum(order > 0, axis=0)
    coefficients = rng.standard_normal(decay.shape) * decay * (strength / np.sqrt(power.sum()))
    field = coefficients.astype(np.float32)
    for axis, n in enumerate(shape):
        field = np.moveaxis(np.tensordot(_cosines(n), field, (0, axis)), 0, axis)
    return np.exp(field)


def rician(
    rng: np.random.Generator, signal: Float[np.ndarray, "*s"], sigma: float
) -> Float[np.ndarray, "*s"]:
    """Magnitude of the complex signal with Gaussian noise of `sigma` in both parts."""
    real = signal + np.float32(sigma) * rng.standard_normal(signal.shape, dtype=np.float32)
    imaginary = np.float32(sigma) * rng.standard_normal(signal.shape, dtype=np.float32)
    return np.sqrt(real**2 + imaginary**2)


def signals(
    rng: np.random.Generator, contrast: str, site: Site, structures: tuple[str, ...]
) -> Float[np.ndarray, " c"]:
    """Signal of each structure for one subject, contrast and site."""
    table = CONTRASTS[contrast]
    middle = table["cortex"]
    jitter = 1 + site.spread * rng.standard_normal(len(structures))
    values = np.array([middle + site.contrast * (table[s] - middle) for s in structures])
    return (np.maximum(values * jitter, 0.01) ** site.gamma).astype(np.float32)


def scan(
    rng: np.random.Generator,
    contrast: str,
    site: Site,
    structures: tuple[str, ...],
    volumes: Float[np.ndarray, "x y z k"],
    texture: Float[np.ndarray, "x y z"],
    grid: Grid,
) -> Float[np.ndarray, "x y z"]:
    """One magnitude image: tissue signals, texture, bias, resolution, noise.

    Args:
        rng: of this subject, site and contrast.
        contrast: a key of `CONTRASTS`.
        site: the scanner.
        structures: names of the channels of `volumes`.
        volumes: partial volume of each structure.
        texture: within-tissue deviation in T1 units.
        grid: box and voxel size.
    """
    image = volumes @ signals(rng, contrast, site, structures)
    image += np.float32(CONTRASTS[contrast]["texture"] * site.texture * site.contrast) * texture
    image = np.maximum(image, 0) * bias_field(rng, grid.shape, site.bias)
    image = smooth(image, site.fwhm, grid.spacing)
    return rician(rng, image, site.noise)
