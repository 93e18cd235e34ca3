"""Parallel-beam Radon transform, back-projection, their exact transposes, and reconstruction.

Images are square, ``[b, n, n, c]``; sinograms are ``[b, angles, bins, c]``, with bins one pixel
wide. The centre is pixel ``n // 2`` and bin ``bins // 2``. With ``u = column - n // 2`` and ``v =
row - n // 2``, bin s of angle theta is the line ``u cos(theta) - v sin(theta) = s``: the geometry
of scikit-image, whose sinograms are ours with the two axes swapped.

Sources: Kak, Slaney, "Principles of computerized tomographic imaging", 1988, chapter 3; for the
discretisation scikit-image and the reference implementation of Saparov et al., "Zero-shot domain
adaptation in CT segmentation by filtered back projection augmentation", 2021.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmedgen.ops.kernels import radon_native as maps
from jaxmedgen.ops.kernels.radon_native import Backend
from jaxmedgen.ops.radon_filters import filter_response, padded_size


def parallel_angles(count: int) -> Float[Array, " a"]:
    """``pi i / count`` for i from 0 to ``count - 1``: half a turn without its end, in radians.

    Raises:
        ValueError: if count is not positive.
    """
    if count < 1:
        raise ValueError(f"count {count} of angles: give at least 1")
    return jnp.asarray(np.pi * np.arange(count) / count)


def radon(
    image: Float[Array, " b *s c"], angles: Float[Array, " a"], *, backend: Backend = "auto"
) -> Float[Array, " b a n c"]:
    """Line integrals by bilinear samples one pixel apart, zero outside of the image.

    Linear in the image; its derivatives of any order use `radon_adjoint`. Angles are constants to
    differentiation. With n bins only the inscribed disc is seen at every angle.

    Args:
        image: square images ``[b, n, n, c]``.
        angles: in radians.
        backend: "xla" everywhere; "native" is C++ on CPU in float32; "auto" takes the latter on a
            single CPU device.

    Returns:
        Sinograms in units of the image times pixels.

    Raises:
        ValueError: if the image is not square, or an angle is not finite.
    """
    image, trig, backend = _prepare("image", image, angles, backend)
    return _unfold(maps.project(_fold(image), trig, backend), image.shape)


def radon_adjoint(
    sinogram: Float[Array, " b a n c"], angles: Float[Array, " a"], *, backend: Backend = "auto"
) -> Float[Array, " b n n c"]:
    """The exact transpose of `radon`: its dot product with x is that of y with ``radon(x)``.

    For iterative reconstruction and gradients; `back_projection` is the smoother discretisation of
    the same operator that reconstruction uses. Arguments as in `radon`.
    """
    sinogram, trig, backend = _prepare("sinogram", sinogram, angles, backend)
    return _unfold(maps.project_adjoint(_fold(sinogram), trig, backend), sinogram.shape)


def back_projection(
    sinogram: Float[Array, " b a m c"],
    angles: Float[Array, " a"],
    *,
    size: int | None = None,
    backend: Backend = "auto",
) -> Float[Array, " b n n c"]:
    """Sum over the angles of the projection, interpolated linearly, at each pixel.

    Linear, with an exact transpose of its own for derivatives of any order.

    Args:
        sinogram: any number m of bins; zero beyond them.
        angles: in radians.
        size: pixels along a side of the images; as many as bins if left out.
        backend: as in `radon`.

    Raises:
        ValueError: if the angles do not fit, one is not finite, or size is not positive.
    """
    sinogram, trig, backend = _prepare("sinogram", sinogram, angles, backend)
    size = sinogram.shape[2] if size is None else size
    if size < 1:
        raise ValueError(f"size {size} of the image: give at least 1")
    return _unfold(maps.back_project(_fold(sinogram), trig, size, backend), sinogram.shape)


def filtered_back_projection(
    sinogram: Float[Array, " b a n c"],
    angles: Float[Array, " a"],
    *,
    filter: str | Float[Array, " f"] | Float[Array, " b f"] = "ramp",
    circle: bool = True,
    backend: Backend = "auto",
) -> Float[Array, " b n n c"]:
    """Images whose `radon` transform at evenly spread angles over half a turn is `sinogram`.

    Detectors are padded with zeros to the diagonal, filtered by FFT, back-projected and multiplied
    by ``pi / (2 angles)``. Always in float32 or better: the ramp cancels large sums.

    Args:
        sinogram: n bins; n is also the size of the images.
        angles: in radians, evenly spread.
        filter: name of a filter, or a frequency response as `radon_filters.filter_response` makes
            it, one for all or one a sample.
        circle: set pixels outside of the inscribed disc to zero; no value there is meaningful.
        backend: as in `radon`.

    Raises:
        ValueError: if the angles do not fit, one is not finite, the filter is unknown, or a
            response has the wrong length.
    """
    if sinogram.dtype in (jnp.bfloat16, jnp.float16):
        sinogram = sinogram.astype(jnp.float32)
    _check_sinogram(sinogram, angles)
    n, count = sinogram.shape[2], sinogram.shape[1]
    filtered = filter_sinogram(sinogram, filter)
    image = back_projection(filtered, angles, size=n, backend=backend) * (math.pi / (2 * count))
    return jnp.where(inscribed_disc(n)[..., None], image, 0) if circle else image


def filter_sinogram(
    sinogram: Float[Array, " b a n c"],
    filter: str | Float[Array, " f"] | Float[Array, " b f"] = "ramp",
) -> Float[Array, " b a m c"]:
    """Filters along the detectors after padding them to the diagonal, ``m = ceil(sqrt(2) n)``.

    Arguments as in `filtered_back_projection`.
    """
    n = sinogram.shape[2]
    if isinstance(filter, str):
        filter = jnp.asarray(filter_response(filter, n), sinogram.dtype)
    diagonal, length = math.ceil(math.sqrt(2) * n), padded_size(n)
    if filter.shape[-1] != length // 2 + 1:
        raise ValueError(
            f"filter of shape {filter.shape} for {n} bins: the last axis must have size "
            f"{length // 2 + 1}"
        )
    before = diagonal // 2 - n // 2
    padded = jnp.pad(sinogram, ((0, 0), (0, 0), (before, length - n - before), (0, 0)))
    # FFTs run along the last axis: only there are they contiguous.
    spectrum = jnp.fft.rfft(jnp.moveaxis(padded, 2, -1))
    response = filter if filter.ndim == 1 else filter[:, None, None]
    filtered = jnp.fft.irfft(spectrum * response, length)[..., :diagonal]
    return jnp.moveaxis(filtered, -1, 2)


def inscribed_disc(size: int) -> np.ndarray:
    """Pixels ``[size, size]`` no further than ``size // 2`` from the centre pixel."""
    axis = np.arange(size) - size // 2
    return axis[:, None] ** 2 + axis**2 <= (size // 2) ** 2


def _prepare(name, x, angles, backend):
    """Checks shapes and values; array in float32 or better, cosines and sines, and the backend."""
    if name == "image":
        if x.ndim != 4 or x.shape[1] != x.shape[2]:
            raise ValueError(
                f"image of shape {x.shape}: a projection needs square slices [b, n, n, c]; pad them"
            )
    else:
        _check_sinogram(x, angles)
    if not isinstance(angles, jax.core.Tracer) and not np.all(np.isfinite(angles)):
        raise ValueError(f"angles {np.asarray(angles)}: each must be finite, in radians")
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    angles = jax.lax.stop_gradient(angles).astype(x.dtype)
    return x, jnp.stack([jnp.cos(angles), jnp.sin(angles)], -1), maps.choose(backend, x.dtype)


def _check_sinogram(sinogram, angles):
    if sinogram.ndim != 4 or angles.shape != sinogram.shape[1:2]:
        raise ValueError(
            f"sinogram of shape {sinogram.shape} for angles of shape {angles.shape}: it must be "
            "[b, angles, bins, c]"
        )


def _fold(x):
    """``[b, p, q, c]`` as ``[b c, p, q]``."""
    return jnp.moveaxis(x, -1, 1).reshape(-1, *x.shape[1:-1])


def _unfold(x, shape):
    """Inverse of `_fold` for batch and channels of `shape`."""
    return jnp.moveaxis(x.reshape(shape[0], shape[-1], *x.shape[1:]), 1, -1)
