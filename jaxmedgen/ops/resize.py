"""Resizing images, and separable linear maps of their axes.

Resizing is separable and is done by one small dense matrix an axis, which every backend likes: no
gathers, exact transposes, and the matrices are constants of the compiled program.

Sources: Keys, "Cubic convolution interpolation for digital image processing", 1981; Duchon,
"Lanczos filtering in one and two dimensions", 1979.
"""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def resize(
    image: Float[Array, " b *s c"],
    shape: Sequence[int],
    *,
    order: int | str = 1,
    antialias: bool | None = None,
) -> Float[Array, " b *o c"]:
    """Image on a grid of another size that covers the same field of view.

    Voxel centres are aligned: output voxel i lies at input coordinate ``(i + 1/2) n/m - 1/2``.
    Weights of voxels beyond the border are given to those inside.

    Args:
        image: 2D or 3D images.
        shape: new size, one number a spatial axis.
        order: 0 nearest, 1 linear, 3 cubic convolution (Keys, a = -1/2), "lanczos" the sinc
            windowed by its own central lobe to three voxels on each side (Lanczos-3).
        antialias: widen the kernel by the factor of reduction when shrinking, so that what the new
            grid cannot show is averaged out (not with order 0). Default: with "lanczos".

    Raises:
        ValueError: if `shape` has another number of axes than the image, or a size below 1, or for
            another order.
    """
    if len(shape) != image.ndim - 2:
        raise ValueError(f"shape {tuple(shape)} for {image.ndim - 2} spatial axes: give one each")
    if min(shape) < 1:
        raise ValueError(f"shape {tuple(shape)}: every size must be at least 1")
    if order not in (0, 1, 3, "lanczos"):
        raise ValueError(f"order {order!r} is unknown to resize: use 0, 1, 3 or 'lanczos'")
    wide = order == "lanczos" if antialias is None else antialias
    sizes = zip(image.shape[1:-1], shape)
    return apply_matrices(image, [_resize_matrix(n, m, order, wide) for n, m in sizes])


def resize_corners(image: Float[Array, " b *s c"], shape: Sequence[int]) -> Float[Array, " b *o c"]:
    """Image on a grid of another size whose outermost voxel centres are those of the old one.

    Linear; what PyTorch calls ``align_corners=True``: output voxel i lies at input coordinate
    ``i (n - 1) / (m - 1)``.

    Args:
        image: 2D or 3D images.
        shape: new size, one number a spatial axis.

    Raises:
        ValueError: if `shape` has another number of axes than the image, or a size below 1.
    """
    if len(shape) != image.ndim - 2 or min(shape) < 1:
        raise ValueError(
            f"shape {tuple(shape)} for {image.ndim - 2} spatial axes: give a size >= 1 for each"
        )
    return apply_matrices(image, [_corner_matrix(n, m) for n, m in zip(image.shape[1:-1], shape)])


def apply_matrices(
    image: Float[Array, " b *s c"],
    matrices: Sequence[Float[Array, "_ _"] | Float[Array, " b _ _"] | Float[np.ndarray, "_ _"]],
) -> Float[Array, " b *o c"]:
    """Applies one linear map an axis: the separable filter or resampling ``(M_1 x .. x M_n) x``.

    Args:
        image: 2D or 3D images.
        matrices: one a spatial axis, shared ``[m, n]`` or one a sample ``[b, m, n]``.
    """
    if len(matrices) != image.ndim - 2:
        raise ValueError(f"{len(matrices)} matrices for {image.ndim - 2} axes: give one an axis")
    letters = "xyz"[: len(matrices)]
    for axis, matrix in zip(letters, matrices):
        matrix = jnp.asarray(matrix, image.dtype)
        rows = "mn" if matrix.ndim == 2 else "bmn"
        old, new = letters.replace(axis, "n"), letters.replace(axis, "m")
        # "highest": accelerators would otherwise round fields and intensities to bf16 or TF32.
        image = jnp.einsum(f"{rows},b{old}c->b{new}c", matrix, image, precision="highest")
    return image


def low_resolution_matrix(
    size: int,
    zoom: Float[Array, ""] | float | int,
    *,
    down_order: int = 0,
    up_order: int = 3,
) -> Float[Array, "size size"]:
    """Matrix that samples an axis at fewer points and interpolates back to its size.

    The zoom may be traced, so each sample of a batch can have its own inside one compiled step. The
    coarse axis has ``round(zoom * size)`` voxels over the same extent.

    Args:
        size: voxels on the axis.
        zoom: coarse over fine resolution, in (0, 1]; 1 gives the identity.
        down_order: 0 nearest or 1 linear sampling onto the coarse axis.
        up_order: 0, 1 or 3 (Keys) interpolation back.
    """
    coarse = jnp.clip(jnp.round(jnp.asarray(zoom, jnp.float32) * size), 1.0, size)
    ratio = coarse / size
    fine_of_coarse = (jnp.arange(size) + 0.5) / ratio - 0.5
    coarse_of_fine = (jnp.arange(size) + 0.5) * ratio - 0.5
    down = _interpolation_rows(fine_of_coarse, jnp.float32(size), size, down_order)
    up = _interpolation_rows(coarse_of_fine, coarse, size, up_order)
    return jnp.matmul(up, down, precision="highest")


def _keys(distance):
    """Cubic convolution kernel, a = -1/2."""
    d = abs(distance)
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return (d <= 1) * near + ((d > 1) & (d < 2)) * far


def _lanczos(distance):
    """Lanczos-3 kernel."""
    return np.where(abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0.0)


@functools.cache
def _resize_matrix(old: int, new: int, order: int | str, antialias: bool) -> np.ndarray:
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    if order == 0:
        nearest = np.clip(np.floor(centres + 0.5), 0, old - 1)
        return (nearest[:, None] == np.arange(old)).astype(np.float64)
    stretch = max(old / new, 1.0) if antialias else 1.0
    distance = (centres[:, None] - np.arange(old)) / stretch
    if order == "lanczos":
        weight = _lanczos(distance)
    else:
        weight = _keys(distance) if order == 3 else np.maximum(1 - np.abs(distance), 0)
    return weight / weight.sum(1, keepdims=True)


@functools.cache
def _corner_matrix(old: int, new: int) -> np.ndarray:
    places = np.arange(new) * ((old - 1) / max(new - 1, 1))
    return np.maximum(1 - np.abs(places[:, None] - np.arange(old)), 0)


def _interpolation_rows(x, count, size, order):
    """Rows of weights at positions `x` over the first `count` (traced) of `size` voxels."""
    grid = jnp.arange(size)
    if order == 0:
        return (jnp.clip(jnp.floor(x + 0.5), 0, count - 1)[:, None] == grid).astype(jnp.float32)
    distance = jnp.clip(x, 0, count - 1)[:, None] - grid
    weight = _keys(distance) if order == 3 else jnp.maximum(1 - jnp.abs(distance), 0)
    weight = jnp.where(grid < count, weight, 0.0)
    return weight / weight.sum(1, keepdims=True)
