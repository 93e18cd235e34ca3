"""Image against image: SSIM, MS-SSIM, PSNR, absolute and squared errors, correlation.

Pure functions of batches, differentiable, 2D or 3D after their input. They compare voxel by voxel,
so they mean something only for aligned pairs: a generated image of the *original* label map in the
same subject's style. `data_range` is the width of the values' full scale (1 for [0, 1], 2 for
[-1, 1]): SSIM's constants and PSNR depend on it, and scaling each image to its own range first
would hide errors of contrast.

Sources: Wang et al., IEEE TIP 13, 2004 (SSIM); Wang et al., Asilomar 2003 (MS-SSIM).
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmedgen.ops.upsample import average_pool

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of MS-SSIM's five scales, from full resolution down."""

_K1, _K2 = 0.01, 0.03


def ssim(
    image: Float[Array, "b *s c"],
    reference: Float[Array, "b *s c"],
    *,
    data_range: float | int,
    window: int | Sequence[int] = 11,
    sigma: float | int = 1.5,
) -> Float[Array, " b"]:
    """Structural similarity, the mean over all windows that lie within the image.

    ``(2 mx my + c1)(2 sxy + c2) / ((mx^2 + my^2 + c1)(sx^2 + sy^2 + c2))`` with moments under a
    Gaussian window, ``c1 = (0.01 L)^2`` and ``c2 = (0.03 L)^2``; channels are averaged.

    Args:
        image: images.
        reference: what they should be.
        data_range: L, width of the full scale.
        window: side of the window, odd; one number or one an axis (thick slices).
        sigma: of the Gaussian, in voxels.

    Raises:
        ValueError: shapes differ, the window does not fit, or `data_range` is not positive.
    """
    luminance, contrast = _ssim_maps(image, reference, data_range, window, sigma)
    return (luminance * contrast).mean(tuple(range(1, image.ndim)))


def ms_ssim(
    image: Float[Array, "b *s c"],
    reference: Float[Array, "b *s c"],
    *,
    data_range: float | int,
    scales: int | None = None,
    window: int | Sequence[int] = 11,
    sigma: float | int = 1.5,
) -> Float[Array, " b"]:
    """Multi-scale structural similarity.

    ``SSIM_M^{w_M} prod_{j<M} CS_j^{w_j}``: contrast and structure at every scale, luminance at the
    coarsest; scales are halved by average pooling, negative means are cut off at 0. Five scales
    need axes of 176 voxels (a window of 11 at the coarsest); smaller images take as many as fit,
    with the first of `WEIGHTS` renormalised, and are not comparable with larger ones.

    Args:
        image: images.
        reference: what they should be.
        data_range: width of the full scale.
        scales: number of scales; as many as fit, five at most, by default.
        window: as in `ssim`.
        sigma: as in `ssim`.

    Raises:
        ValueError: as `ssim`, or `scales` do not fit the image.
    """
    sides = _sides(window, image.ndim - 2)
    fits = count_scales(image.shape[1:-1], sides)
    scales = fits if scales is None else scales
    if not 1 <= scales <= max(fits, 1):
        raise ValueError(
            f"scales={scales}: an image of {image.shape[1:-1]} has room for {fits} with a window "
            f"of {sides}"
        )
    weights = np.asarray(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])
    result = jnp.ones(image.shape[0], image.dtype)
    axes = tuple(range(1, image.ndim))
    for level, weight in enumerate(weights):
        if level:
            even = tuple(slice(0, n - n % 2) for n in image.shape[1:-1])
            image, reference = (average_pool(x[:, *even], 2) for x in (image, reference))
        luminance, contrast = _ssim_maps(image, reference, data_range, sides, sigma)
        last = level == scales - 1
        value = (luminance * contrast if last else contrast).mean(axes)
        # The root of 0 has no derivative.
        result = result * jnp.where(value > 0, jnp.maximum(value, 1e-12) ** float(weight), 0.0)
    return result


def count_scales(shape: Sequence[int], window: int | Sequence[int] = 11) -> int:
    """Scales of MS-SSIM that fit an image: all axes hold more than ``(w - 1) 2^(M-1)`` voxels."""
    sides = _sides(window, len(shape))
    return sum(
        all((n >> level) >= side for n, side in zip(shape, sides)) for level in range(len(WEIGHTS))
    )


def fitting_window(shape: Sequence[int], window: int = 11) -> tuple[int, ...]:
    """Sides of the window, smaller (and odd) on axes that are shorter: few thick slices."""
    return tuple(min(window, n - (n + 1) % 2) for n in shape)


def psnr(
    image: Float[Array, "b *s c"],
    reference: Float[Array, "b *s c"],
    *,
    data_range: float | int,
) -> Float[Array, " b"]:
    """Peak signal-to-noise ratio in dB, ``10 log10(L^2 / MSE)``; infinite for equal images."""
    _check(image, reference, data_range)
    error = jnp.square(image - reference).mean(tuple(range(1, image.ndim)))
    return 10 * jnp.log10(data_range**2 / error)


def mean_absolute_error(
    image: Float[Array, "b *s c"], reference: Float[Array, "b *s c"]
) -> Float[Array, " b"]:
    """Mean of absolute differences, in the images' unit."""
    _check(image, reference)
    return jnp.abs(image - reference).mean(tuple(range(1, image.ndim)))


def normalized_mean_squared_error(
    image: Float[Array, "b *s c"], reference: Float[Array, "b *s c"]
) -> Float[Array, " b"]:
    """``|x - y|^2 / |y|^2`` with y the reference."""
    _check(image, reference)
    axes = tuple(range(1, image.ndim))
    return jnp.square(image - reference).sum(axes) / jnp.square(reference).sum(axes)


def normalized_cross_correlation(
    image: Float[Array, "b *s c"], reference: Float[Array, "b *s c"]
) -> Float[Array, " b"]:
    """Pearson's correlation over voxels and channels, in [-1, 1]; 0 where an image is constant."""
    _check(image, reference)
    axes = tuple(range(1, image.ndim))
    x, y = (v - v.mean(axes, keepdims=True) for v in (image, reference))
    norm = jnp.sqrt(jnp.square(x).sum(axes) * jnp.square(y).sum(axes))
    return jnp.where(norm > 0, (x * y).sum(axes) / jnp.where(norm > 0, norm, 1.0), 0.0)


def _ssim_maps(image, reference, data_range, window, sigma):
    """Luminance and contrast-structure of every valid window."""
    _check(image, reference, data_range)
    axes = image.ndim - 2
    sides = _sides(window, axes)
    if any(side > n for side, n in zip(sides, image.shape[1:-1])):
        raise ValueError(
            f"window {sides} is larger than the image {image.shape[1:-1]}: give a smaller one"
        )
    # Variances do not see a shift, and in float32 small ones drown under a large mean.
    spatial = tuple(range(1, image.ndim - 1))
    shift = 0.5 * (image + reference).mean(spatial, keepdims=True)
    x, y = image - shift, reference - shift
    moments = jnp.concatenate([x, y, x * x, y * y, x * y], axis=-1)
    for axis, side in enumerate(sides, start=1):
        moments = _smooth(moments, axis, side, sigma)
    mx, my, mxx, myy, mxy = jnp.split(moments, 5, axis=-1)
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    contrast = (2 * (mxy - mx * my) + c2) / (mxx - mx * mx + myy - my * my + c2)
    mx, my = mx + shift, my + shift
    return (2 * mx * my + c1) / (mx * mx + my * my + c1), contrast


def _smooth(x, axis, side, sigma):
    """Weighted sums along one axis where the window fits."""
    taps = np.arange(side) - (side - 1) / 2
    weights = np.exp(-0.5 * (taps / sigma) ** 2)
    weights = weights / weights.sum()
    size = x.shape[axis] - side + 1
    parts = [
        float(w) * jax.lax.slice_in_dim(x, k, k + size, axis=axis) for k, w in enumerate(weights)
    ]
    return sum(parts[1:], parts[0])


def _sides(window, axes):
    sides = (window,) * axes if isinstance(window, int) else tuple(window)
    if len(sides) != axes or any(side < 1 or side % 2 == 0 for side in sides):
        raise ValueError(f"window {window} must be odd and positive, one number or one an axis")
    return sides


def _check(image, reference, data_range=1.0):
    if image.shape != reference.shape:
        raise ValueError(f"image {image.shape} and reference {reference.shape} differ in shape")
    if not data_range > 0:
        raise ValueError(f"data_range={data_range} must be positive: the width of the full scale")


def range_notes(
    sets: Mapping[str, Float[np.ndarray, "n *s c"]], data_range: float | int
) -> list[str]:
    """A sentence for every set that leaves the declared full scale, or hardly fills it.

    Args:
        sets: images by the set's name.
        data_range: declared width of the full scale.
    """
    notes = []
    for name, images in sets.items():
        width = float(np.max(images) - np.min(images))
        if width > 1.05 * data_range or width < 0.1 * data_range:
            notes.append(
                f"the {name} images span {width:.3g}, the data range is {data_range:g}: SSIM and "
                "PSNR depend on it"
            )
    return notes
