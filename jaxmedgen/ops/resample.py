"""Sampling images and label maps at arbitrary voxel coordinates.

Coordinates are in voxels, components in array-axis order, voxel centres at the integers. One set of
weights and flat indices serves all channels. On one CPU device a C++ kernel does the work
(`kernels/resample_native.py`), elsewhere XLA's gathers (`kernels/resample_xla.py`).

Source: Unser, "Splines: a perfect fit for signal and image processing", 1999 (cubic B-splines and
their prefilter).
"""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from jaxmedgen.ops.kernels import resample_native
from jaxmedgen.ops.kernels.platform import on_single_cpu
from jaxmedgen.ops.kernels.resample_pallas import sample_pallas
from jaxmedgen.ops.kernels.resample_xla import MODES, Mode, corners, prefilter_matrix, sample_xla
from jaxmedgen.ops.resize import apply_matrices

Backend = Literal["auto", "xla", "native", "pallas"]


def resample(
    image: Float[Array, " b *s c"],
    coordinates: Float[Array, " b *o n"],
    *,
    order: int = 1,
    mode: Mode | str = "border",
    fill: Float[Array, " b c"] | float | int = 0.0,
    backend: Backend = "auto",
) -> Float[Array, " b *o c"]:
    """Values of `image` at `coordinates`; differentiable to both (order 0: to the image only).

    Derivatives of any order exist in forward and reverse mode. Linear sampling has kinks at the
    voxel centres: there the derivative is that of the cell above. A cubic spline has two continuous
    derivatives.

    Args:
        image: 2D or 3D images, channels last.
        coordinates: where to sample, in voxels, any output shape.
        order: 0 nearest, 1 linear, 3 cubic B-spline through the voxels' values.
        mode: how the image goes on beyond its outermost voxel centres. "border" repeats their
            values (scipy's "nearest"), "constant" has `fill` in every voxel outside
            ("grid-constant"), "reflect" mirrors the image about the outermost voxel centres
            ("mirror"), "wrap" repeats it periodically ("grid-wrap"). With order 3 and "border" the
            spline inside is that of the mirrored image.
        fill: value outside for "constant", one number or one a sample and channel.
        backend: "xla" runs everywhere; "native" is the C++ kernel for CPU, float32; "pallas" the
            GPU kernel (order 1, reverse mode only; never measured); "auto" takes the C++ kernel on
            a single CPU device and XLA elsewhere.

    Returns:
        One value a coordinate and channel.

    Raises:
        ValueError: for an unknown order, mode or backend, an image that is not 2D or 3D,
            coordinates that do not fit it, or a kernel that cannot be had.
    """
    _check("image", image, image.ndim - 2, coordinates, order, (0, 1, 3))
    if mode not in MODES:
        raise ValueError(f"mode {mode!r} is unknown: use one of {MODES}")
    inside = image
    # A fill of 0 needs no work, one that is an array may be 0 or not.
    filled = mode == "constant" and not (isinstance(fill, float | int) and fill == 0)
    if filled:
        outside = jnp.asarray(fill, image.dtype)
        outside = jnp.broadcast_to(outside, (image.shape[0], image.shape[-1]))
        inside = image - outside.reshape(image.shape[0], *(1,) * (image.ndim - 2), -1)
    if order == 3:
        inside = apply_matrices(inside, [prefilter_matrix(n, mode) for n in image.shape[1:-1]])
    points = coordinates.reshape(image.shape[0], -1, coordinates.shape[-1])
    if backend == "pallas":
        sample = sample_pallas
    else:
        native = _native(backend, inside, points)
        sample = resample_native.sample_native if native else sample_xla
    out = sample(inside, points, order=order, mode=mode)
    if filled:
        out = out + outside[:, None]
    return out.reshape(*coordinates.shape[:-1], image.shape[-1])


def resample_labels(
    labels: Shaped[Array, " b *s"],
    coordinates: Float[Array, " b *o n"],
    *,
    order: int = 0,
    fill: int = 0,
) -> Int[Array, " b *o"]:
    """Labels at `coordinates`; values are never mixed, so ignore labels (255, -1) survive.

    Args:
        labels: integer label maps.
        coordinates: where to sample, in voxels.
        order: 0 takes the nearest voxel; 1 gives the label with the largest linear weight, the
            argmax of the linearly sampled one-hot map (smoother borders), without forming that map.
        fill: label outside of the volume.

    Raises:
        ValueError: for labels that are not integers, another order, or coordinates that do not fit
            the labels.
    """
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"labels of type {labels.dtype}: they must be integers; round them, or use resample "
            "for probabilities"
        )
    _check("labels", labels, labels.ndim - 1, coordinates, order, (0, 1))

    def one(labels, coordinates):
        flat = labels.reshape(-1)
        found = []  # (label, weight) of each voxel that a point sees
        for index, weight, inside in corners(coordinates, labels.shape, order, "constant"):
            value = flat.at[index].get(mode="promise_in_bounds")
            found.append((jnp.where(inside, value, fill), weight))
        best, most = found[0][0], None
        if order == 1:
            for value, _ in found:
                total = sum(jnp.where(other == value, w, 0.0) for other, w in found)
                best = value if most is None else jnp.where(total > most, value, best)
                most = total if most is None else jnp.maximum(total, most)
        return best

    return jax.vmap(one)(labels, coordinates)


def _check(
    name: str,
    image: jax.Array,
    axes: int,
    coordinates: jax.Array,
    order: int,
    orders: Sequence[int],
) -> None:
    if axes not in (2, 3) or 0 in image.shape[1 : 1 + axes]:
        raise ValueError(f"{name} of shape {image.shape}: it needs 2 or 3 axes of space, not empty")
    if coordinates.ndim < 2 or coordinates.shape[-1] != axes:
        raise ValueError(
            f"coordinates of shape {coordinates.shape} for {axes} spatial axes: "
            f"the last axis must have size {axes}"
        )
    if coordinates.shape[0] != image.shape[0]:
        raise ValueError(
            f"coordinates of shape {coordinates.shape} for {name} of shape {image.shape}: "
            "the first axis, samples, must be the same"
        )
    if order not in orders:
        raise ValueError(f"order {order} is unknown here: use one of {orders}")


def _native(backend: str, image: jax.Array, points: jax.Array) -> bool:
    if backend == "auto":
        # Foreign calls cannot be partitioned over devices.
        return (
            on_single_cpu() and resample_native.fits(image, points) and resample_native.available()
        )
    if backend == "xla":
        return False
    if backend != "native":
        raise ValueError(f"backend {backend!r} is unknown: use 'auto', 'xla', 'native' or 'pallas'")
    if not resample_native.fits(image, points):
        raise ValueError(
            f"backend 'native' for image {image.dtype}{image.shape} and coordinates "
            f"{points.dtype}{points.shape}: it takes float32 that is not empty; use 'auto'"
        )
    if not resample_native.available():
        raise ValueError("backend 'native' cannot be built here (see the log): use 'auto'")
    return True
