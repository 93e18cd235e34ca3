"""CT slices as another reconstruction kernel would show them.

A slice is projected, filtered with a random kernel and reconstructed, so that a network trained on
one kernel meets others. Attenuation, not HU, is filtered: air must be zero or it rings.

Source: Saparov, Kurmukov, Shirokikh, Belyaev, "Zero-shot domain adaptation in CT segmentation by
filtered back projection augmentation", 2021, and its reference implementation.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmedgen.ops.kernels.radon_native import Backend
from jaxmedgen.ops.radon import filtered_back_projection, inscribed_disc, parallel_angles, radon
from jaxmedgen.ops.radon_filters import check_kernel, kernel_gain, kernel_response

WATER, AIR = 1e-4, 1.2041e-6  # attenuation per pixel
LOWEST, HIGHEST = -1000.0, 3000.0  # HU that scanners store


def hu_to_attenuation(hu: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Linear attenuation: `WATER` at 0 HU and `AIR` at -1000."""
    return hu * ((WATER - AIR) / 1000) + WATER


def attenuation_to_hu(attenuation: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Inverse of `hu_to_attenuation`."""
    return (attenuation - WATER) * (1000 / (WATER - AIR))


def change_kernel(
    slices: Float[Array, " b *s c"],
    a: Float[Array, " b"],
    b: Float[Array, " b"],
    *,
    angles: int,
    mode: str = "radon",
    dc_match: bool = False,
    outside: str = "air",
    backend: Backend = "auto",
) -> Float[Array, " b *s c"]:
    """Slices reconstructed with the kernel ``|w| (1 + a |w|^b)``, |w| being 1 at Nyquist.

    Published ranges: smoothing a in [-1, 0] and b in [0.1, 1], sharpening a in [10, 40] and b in
    [1, 4]. The kernel does not keep HU: small b also changes the low frequencies, soft tissue of 40
    HU becomes -612 for a = -1, b = 0.1 and 492 for a = 40, b = 1. Linear in the attenuation before
    the last clip.

    Args:
        slices: axial slices ``[b, h, w, c]`` in HU; padded with air to a square for the transform.
        a: strength, one a sample.
        b: exponent, one a sample.
        angles: projections over half a turn; the published augmentation takes half the size.
        mode: "radon" projects and reconstructs; "fourier" applies the gain ``1 + a |w|^b``, which
            is the same up to interpolation and aliasing, by one 2D FFT: close for smoothing, free
            of streaks and less noisy for sharpening.
        dc_match: scale the attenuation so that its mean over the disc stays as it was.
        outside: what lies outside of the inscribed disc, where nothing can be reconstructed:
            air, or the slice as it was.
        backend: as in `radon`.

    Returns:
        HU in [-1000, 3000].

    Raises:
        ValueError: if the slices are not 2D, b is negative, a or b not finite or not one a sample,
            or a setting unknown.
    """
    if slices.ndim != 4:
        raise ValueError(f"slices of shape {slices.shape} must be [b, h, w, c]")
    if a.shape != slices.shape[:1] or b.shape != slices.shape[:1]:
        raise ValueError(
            f"a of shape {a.shape} and b of shape {b.shape} for {slices.shape[0]} slices: "
            "give one a slice"
        )
    if mode not in ("radon", "fourier"):
        raise ValueError(f"mode {mode!r} is unknown: use 'radon' or 'fourier'")
    if outside not in ("air", "keep"):
        raise ValueError(f"outside {outside!r} is unknown: use 'air' or 'keep'")
    check_kernel(a, b)
    hu = jnp.maximum(slices.astype(jnp.promote_types(slices.dtype, jnp.float32)), LOWEST)
    height, width = hu.shape[1:3]
    size = max(height, width)
    top, left = size // 2 - height // 2, size // 2 - width // 2
    pads = ((0, 0), (top, size - height - top), (left, size - width - left), (0, 0))
    attenuation = hu_to_attenuation(jnp.pad(hu, pads, constant_values=LOWEST))
    disc = jnp.asarray(inscribed_disc(size))[..., None]
    a, b = a.astype(hu.dtype), b.astype(hu.dtype)
    if mode == "radon":
        theta = parallel_angles(angles).astype(hu.dtype)
        sinogram = radon(attenuation, theta, backend=backend)
        response = kernel_response(a, b, size)
        out = filtered_back_projection(sinogram, theta, filter=response, backend=backend)
    else:
        out = jnp.where(disc, _filter_isotropic(attenuation, a, b), 0)
    if dc_match:
        before, after = (jnp.sum(x * disc, (1, 2), keepdims=True) for x in (attenuation, out))
        out = out * (before / jnp.maximum(after, 1e-12))
    out = jnp.clip(attenuation_to_hu(out), LOWEST, HIGHEST)
    crop = (slice(None), slice(top, top + height), slice(left, left + width))
    return jnp.where(disc[crop[1:]], out[crop], hu) if outside == "keep" else out[crop]


def _filter_isotropic(x, a, b):
    """Gain ``1 + a min(2 rho, 1)^b``, rho in cycles a pixel, with zeros around the image."""
    n = x.shape[1]
    rows, columns = np.fft.fftfreq(2 * n)[:, None], np.fft.rfftfreq(2 * n)
    r = jnp.asarray(np.minimum(2 * np.hypot(rows, columns), 1), x.dtype)
    spectrum = jnp.fft.rfft2(jnp.moveaxis(x, -1, 1), (2 * n, 2 * n))  # zeros follow the image
    filtered = jnp.fft.irfft2(spectrum * kernel_gain(r, a, b)[:, None], (2 * n, 2 * n))
    return jnp.moveaxis(filtered[..., :n, :n], 1, -1)
