"""Frequency responses for filtered back-projection: ramp, apodisation windows, kernel families.

A response ``[f]`` holds the gains at the non-negative frequencies of a detector row padded to
`padded_size` bins, ``k / padded_size`` cycles a bin, up to the Nyquist frequency, where the ramp
is 1. Every real response is symmetric, so the other half is implied.

Sources: Kak, Slaney, "Principles of computerized tomographic imaging", 1988, section 3.3 (why the
ramp is sampled in space); Saparov et al., "Zero-shot domain adaptation in CT segmentation by
filtered back projection augmentation", 2021 (kernels k_ab).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

FILTERS = ("ramp", "shepp-logan", "cosine", "hamming", "hann")


def padded_size(bins: int) -> int:
    """Length of the FFT for `bins` detectors: a power of two, twice the padded diagonal or more."""
    diagonal = math.ceil(math.sqrt(2) * bins)
    return max(64, 2 ** math.ceil(math.log2(2 * diagonal)))


def ramp(bins: int) -> Float[np.ndarray, " f"]:
    """Ramp filter ``2 |f|`` (f in cycles a bin), made in space and then transformed.

    Sampling ``|f|`` itself would lose the mean of the image; this one is slightly positive at 0.

    Raises:
        ValueError: if bins is not positive.
    """
    if bins < 1:
        raise ValueError(f"bins {bins}: a detector has at least 1")
    length = padded_size(bins)
    distance = np.minimum(np.arange(length), length - np.arange(length))
    odd = distance % 2 == 1
    kernel = np.where(odd, -1 / (np.pi * np.maximum(distance, 1)) ** 2, 0.0)
    kernel[0] = 0.25
    return 2 * np.fft.rfft(kernel).real


def window(name: str, bins: int, *, cutoff: float | int = 1.0) -> Float[np.ndarray, " f"]:
    """Apodisation by which the named filter multiplies the ramp.

    Args:
        name: "ramp" is 1; "shepp-logan" a sinc, ``sin(w/2) / (w/2)``; "cosine" ``cos(w/2)``;
            "hamming" ``0.54 + 0.46 cos(w)``; "hann" ``(1 + cos(w)) / 2``, with w from 0 to pi.
        bins: detectors.
        cutoff: where w reaches pi, as a fraction of the Nyquist frequency; 0 beyond.

    Raises:
        ValueError: if the name is unknown or the cutoff not in (0, 1].
    """
    if name not in FILTERS:
        raise ValueError(f"filter {name!r} is unknown: use one of {', '.join(FILTERS)}")
    if not 0 < cutoff <= 1:
        raise ValueError(f"cutoff {cutoff} must be in (0, 1], a fraction of the Nyquist frequency")
    count = padded_size(bins) // 2 + 1
    w = np.pi * np.linspace(0, 1, count) / cutoff
    gains = {
        "ramp": np.ones(count),
        "shepp-logan": np.sinc(w / (2 * np.pi)),
        "cosine": np.cos(w / 2),
        "hamming": 0.54 + 0.46 * np.cos(w),
        "hann": (1 + np.cos(w)) / 2,
    }
    return np.where(w <= np.pi * (1 + 1e-12), gains[name], 0.0)


def filter_response(name: str, bins: int, *, cutoff: float | int = 1.0) -> Float[np.ndarray, " f"]:
    """Ramp times `window`: what `filtered_back_projection` takes as its filter."""
    return ramp(bins) * window(name, bins, cutoff=cutoff)


def kernel_response(
    a: Float[Array, " b"], b: Float[Array, " b"], bins: int
) -> Float[Array, " b f"]:
    """Ramp times ``1 + a r^b``, the kernels k_ab of reconstruction-kernel augmentation.

    Here r is the ramp itself, 1 at the Nyquist frequency. Positive a sharpens, negative a (down to
    -1) smooths, 0 is the plain ramp. The gain is not 1 at low frequencies when b is small.

    Args:
        a: strength, one a sample.
        b: exponent, one a sample.
        bins: detectors.

    Raises:
        ValueError: if b is negative, or a or b not finite.
    """
    check_kernel(a, b)
    r = jnp.asarray(ramp(bins), a.dtype)
    return r * kernel_gain(r, a, b)


def kernel_gain(
    r: Float[Array, " *f"], a: Float[Array, " b"], b: Float[Array, " b"]
) -> Float[Array, " b *f"]:
    """``1 + a r^b`` for relative frequencies r in [0, 1], for each sample."""
    a, b = (x.reshape(-1, *(1,) * r.ndim) for x in (a, b))
    # Rounding may leave r slightly negative, whose powers are NaN, and 0^b has no derivative.
    return 1 + a * jnp.maximum(r, 1e-12) ** b


def check_kernel(a: Float[Array, " b"], b: Float[Array, " b"]) -> None:
    """Raises ValueError unless b >= 0 and both are finite; traced values are not looked at."""
    for name, value in (("a", a), ("b", b)):
        if isinstance(value, jax.core.Tracer):
            continue
        if not np.all(np.isfinite(value)):
            raise ValueError(f"{name} {np.asarray(value)} must be finite")
        if name == "b" and np.any(np.asarray(value) < 0):
            raise ValueError(f"b {np.asarray(value)} must not be negative: r^b would be infinite")
