"""Axis-aligned resampling with voxel centres kept where they are in mm.

A `GridMap` says, axis by axis, which place of the old grid each voxel of a new grid shows. Crop,
pad and change of spacing are all such maps, they compose and invert, and so a whole preprocessing
is one interpolation and its inverse another.

Interpolation is linear in the data and separable, so each axis is one matrix: B-spline weights
(Thevenaz, Blu & Unser, IEEE TMI 2000) times, where voxels get larger, a Gaussian against aliasing.
Applying small dense matrices is many times faster than `scipy.ndimage` on volumes; the numbers are
scipy's (tested).
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from jaxmedgen.data.patches import extract_patch

_NEVER_A_TIE = 1e-4
"""Voxels by which one-hot resampling looks to one side: halving the resolution puts new centres
exactly between two labels, and settling all those ties for one class would change its size."""


@dataclasses.dataclass(frozen=True)
class GridMap:
    """New voxel `j` lies at `scale * j + shift` in voxels of the old grid, on every axis.

    Attributes:
        scale: size of a new voxel in old voxels, an axis.
        shift: place of the first new voxel, in old voxels, an axis.
        old_shape: spatial shape of the old grid.
        new_shape: spatial shape of the new grid.
    """

    scale: tuple[float, ...]
    shift: tuple[float, ...]
    old_shape: tuple[int, ...]
    new_shape: tuple[int, ...]

    def inverse(self) -> "GridMap":
        """The way back: old voxels in terms of the new grid."""
        return GridMap(
            scale=tuple(1.0 / a for a in self.scale),
            shift=tuple(-b / a for a, b in zip(self.scale, self.shift)),
            old_shape=self.new_shape,
            new_shape=self.old_shape,
        )

    def then(self, second: "GridMap") -> "GridMap":
        """This map followed by one from its new grid to a third."""
        if second.old_shape != self.new_shape:
            raise ValueError(
                f"cannot chain a map onto {self.new_shape} with one from {second.old_shape}"
            )
        return GridMap(
            scale=tuple(a * c for a, c in zip(self.scale, second.scale)),
            shift=tuple(a * d + b for a, b, d in zip(self.scale, self.shift, second.shift)),
            old_shape=self.old_shape,
            new_shape=second.new_shape,
        )

    def is_crop(self) -> bool:
        """Whether the map only crops and pads, without interpolation."""
        return all(a == 1.0 for a in self.scale) and all(float(b).is_integer() for b in self.shift)

    def new_affine(
        self, affine: Float[np.ndarray, "4 4"], axes: Sequence[int] = (0, 1, 2)
    ) -> Float[np.ndarray, "4 4"]:
        """Affine of the new grid from the old one's; `axes` are the array's among the affine's."""
        step = np.eye(4)
        for axis, scale, shift in zip(axes, self.scale, self.shift):
            step[axis, axis], step[axis, 3] = scale, shift
        return affine @ step


def respace(
    shape: Sequence[int], spacing: Sequence[float], new_spacing: Sequence[float]
) -> GridMap:
    """The map to another voxel size over the same field of view.

    The new spacing is met exactly and both grids have the same centre; the number of voxels is
    rounded, so that the borders differ by at most half a new voxel.
    """
    scale = tuple(float(t) / float(s) for s, t in zip(spacing, new_spacing))
    # Headers store single precision: 0.99999994 mm is 1 mm and not a reason to interpolate.
    scale = tuple(1.0 if abs(a - 1.0) < 1e-5 else a for a in scale)
    new_shape = tuple(max(1, round(n / a)) for n, a in zip(shape, scale))
    shift = tuple((n - 1) / 2 - a * (m - 1) / 2 for n, a, m in zip(shape, scale, new_shape))
    return GridMap(scale, shift, tuple(shape), new_shape)


def crop_or_pad(shape: Sequence[int], new_shape: Sequence[int]) -> GridMap:
    """The map to another shape around the same centre (to the voxel)."""
    shift = tuple(float((n - m) // 2) for n, m in zip(shape, new_shape))
    return GridMap((1.0,) * len(shift), shift, tuple(shape), tuple(new_shape))


def axis_weights(
    scale: float,
    shift: float,
    old: int,
    new: int,
    *,
    order: int,
    anti_alias: bool = False,
) -> Float[np.ndarray, "new old"]:
    """The matrix that interpolates one axis; rows of places outside the old grid are zero.

    Args:
        scale: size of a new voxel in old voxels.
        shift: place of the first new voxel in old voxels.
        old: old length.
        new: new length.
        order: 0 nearest, 1 linear, 3 cubic B-spline (mirrored ends).
        anti_alias: with scale > 1, first smooths with a Gaussian of (scale - 1) / 2 voxels, as
            scikit-image's `resize` does.
    """
    places = scale * np.arange(new) + shift
    # Half a voxel around the outermost centres still belongs to the volume.
    inside = (places > -0.5 - 1e-6) & (places < old - 0.5 + 1e-6)
    places = np.clip(places, 0, old - 1)
    weights = np.zeros((new, old))
    rows = np.arange(new)
    if order == 0 or old == 1:
        weights[rows, np.minimum(np.floor(places + 0.5).astype(int), old - 1)] = 1
    elif order == 1:
        left = np.minimum(np.floor(places).astype(int), old - 2)
        weights[rows, left], weights[rows, left + 1] = 1 - (places - left), places - left
    elif order == 3:
        left = np.floor(places).astype(int)
        for k in range(-1, 3):
            distance = np.abs(places - (left + k))
            value = np.where(
                distance < 1,
                2 / 3 - distance**2 + distance**3 / 2,
                np.maximum(2 - distance, 0) ** 3 / 6,
            )
            mirrored = np.abs(left + k)
            mirrored = np.abs((old - 1) - np.abs((old - 1) - mirrored))
            np.add.at(weights, (rows, mirrored), value)
        weights = weights @ ndimage.spline_filter1d(np.eye(old), 3, axis=0, mode="mirror")
    else:
        raise ValueError(f"interpolation order {order} is not one of 0, 1, 3")
    if anti_alias and scale > 1 and order > 0:
        weights = weights @ ndimage.gaussian_filter1d(
            np.eye(old), (scale - 1) / 2, axis=0, mode="nearest"
        )
    weights[~inside] = 0
    return weights.astype(np.float32)


def _contract(array: np.ndarray, weights: Sequence[np.ndarray]) -> np.ndarray:
    # Shrinking axes first leaves less work for the others.
    for axis in sorted(
        range(len(weights)), key=lambda a: weights[a].shape[0] / weights[a].shape[1]
    ):
        array = np.moveaxis(np.tensordot(weights[axis], array, axes=(1, axis)), 0, axis)
    return array


def _all_weights(grid: GridMap, order: int, anti_alias: bool, nudge: float = 0.0) -> list:
    return [
        axis_weights(a, b + nudge, n, m, order=order, anti_alias=anti_alias)
        for a, b, n, m in zip(grid.scale, grid.shift, grid.old_shape, grid.new_shape)
    ]


def resample_image(
    image: Float[np.ndarray, "*s c"],
    grid: GridMap,
    *,
    order: int = 3,
    anti_alias: bool = True,
    fill: np.ndarray | float = 0.0,
) -> Float[np.ndarray, "*t c"]:
    """An image (or probabilities) on the new grid, float32.

    Args:
        image: channels last, on the old grid.
        grid: the map.
        order: 0, 1 or 3.
        anti_alias: smooth before voxels get larger.
        fill: value outside the old grid, one number or one a channel.
    """
    image = np.asarray(image, np.float32)
    if grid.is_crop():
        return extract_patch(image, [int(b) for b in grid.shift], grid.new_shape, fill)
    fill = np.asarray(fill, np.float32)
    # Places outside have zero rows, so 0 must mean `fill` meanwhile.
    result = _contract(image - fill, _all_weights(grid, order, anti_alias)) + fill
    return np.ascontiguousarray(result, np.float32)


def resample_label(
    label: Int[np.ndarray, "*s"], grid: GridMap, *, interpolation: str = "linear"
) -> Int[np.ndarray, "*t"]:
    """A label map on the new grid, int32; background outside.

    Args:
        label: on the old grid.
        grid: the map.
        interpolation: "nearest", or "linear": every class's indicator is interpolated and the
            largest wins, which keeps boundaries smooth. Work goes over each class's bounding box
            alone, so many small structures are cheap.
    """
    if grid.is_crop():
        return extract_patch(label, [int(b) for b in grid.shift], grid.new_shape).astype(np.int32)
    if interpolation == "nearest":
        index, inside = [], []
        for a, b, n, m in zip(grid.scale, grid.shift, grid.old_shape, grid.new_shape):
            nearest = np.floor(a * np.arange(m) + b + 0.5).astype(int)
            index.append(np.clip(nearest, 0, n - 1))
            inside.append((nearest >= 0) & (nearest < n))
        result = label[np.ix_(*index)].astype(np.int32)
        result[~functools.reduce(np.logical_and.outer, inside)] = 0
        return result
    if interpolation != "linear":
        raise ValueError(f"label interpolation {interpolation!r} is not 'nearest' or 'linear'")
    weights = _all_weights(grid, 1, anti_alias=False, nudge=_NEVER_A_TIE)
    best = np.zeros(grid.new_shape, np.float32)
    foreground = np.zeros(grid.new_shape, np.float32)
    result = np.zeros(grid.new_shape, np.int32)
    values, compact = np.unique(label, return_inverse=True)
    boxes = ndimage.find_objects(compact.reshape(label.shape) + 1)
    for value, box in zip(values, boxes):
        if value == 0:
            continue
        columns = [w[:, s] for w, s in zip(weights, box)]
        touched = [np.flatnonzero(c.any(axis=1)) for c in columns]
        if any(len(t) == 0 for t in touched):
            continue
        region = tuple(slice(t[0], t[-1] + 1) for t in touched)
        share = _contract(
            (label[box] == value).astype(np.float32), [c[r] for c, r in zip(columns, region)]
        )
        wins = share > best[region]
        result[region][wins] = value
        best[region][wins] = share[wins]
        foreground[region] += share
    result[1 - foreground > best] = 0
    return result


def label_from_probabilities(
    probabilities: Float[np.ndarray, "*s k"], grid: GridMap
) -> Int[np.ndarray, "*t"]:
    """The most probable class on the new grid, int32; background outside.

    Classes are interpolated one by one against the best so far: the memory is that of two volumes,
    whatever the number of classes.
    """
    best = np.full(grid.new_shape, -np.inf, np.float32)
    result = np.zeros(grid.new_shape, np.int32)
    for value in range(probabilities.shape[-1]):
        fill = 1.0 if value == 0 else 0.0
        channel = np.asarray(probabilities[..., value : value + 1], np.float32)
        share = resample_image(channel, grid, order=1, anti_alias=True, fill=fill)[..., 0]
        wins = share > best
        result[wins] = value
        best[wins] = share[wins]
    return result
