"""Label maps between the slices of a stack: nearest slice, or zero of interpolated distances.

On the host, with scipy's exact distance transform.

Source: Raya & Udupa, "Shape-based interpolation of multidimensional objects", IEEE TMI 9, 1990.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

_ABSENT = 1e3
"""Distance in voxels of a class that is not there, where no limit is given."""


def signed_distance_maps(
    label: Int[np.ndarray, "*s"], classes: int, *, limit: float | int | None = None
) -> Float[np.ndarray, "*s k"]:
    """Distance to the border of every class in voxels, negative inside; 0 is midway between voxels.

    Args:
        label: one slice or volume.
        classes: number of label values.
        limit: largest absolute distance; also that of a class that is not there.
    """
    far = _ABSENT if limit is None else float(limit)
    maps = np.empty((*label.shape, classes))
    for k in range(classes):
        mask = label == k
        if not mask.any() or mask.all():
            maps[..., k] = -far if mask.all() else far
            continue
        outside = ndimage.distance_transform_edt(~mask)
        inside = ndimage.distance_transform_edt(mask)
        maps[..., k] = np.where(mask, 0.5 - inside, outside - 0.5)
    return np.clip(maps, -far, far)


def interpolate_labels(
    label: Int[np.ndarray, " n *s"],
    positions: Float[np.ndarray, " m"],
    *,
    classes: int,
    method: Literal["distance", "nearest"] | str = "distance",
    limit: float | int = 8,
) -> Int[np.ndarray, " m *s"]:
    """Slices at positions between those of a stack.

    Args:
        label: the stack.
        positions: in slices, from 0 to n - 1.
        classes: number of label values.
        method: ``nearest`` repeats the nearest slice (the earlier one midway); ``distance``
            interpolates the signed distances of all classes linearly and takes the least one.
        limit: largest distance in voxels that counts; a class missing on one side ends at half way
            where it is thicker than this, earlier elsewhere.

    Raises:
        ValueError: positions beyond the stack, or an unknown method.
    """
    last = len(label) - 1
    if len(positions) and (positions.min() < -1e-9 or positions.max() > last + 1e-9):
        raise ValueError(
            f"positions from {positions.min():g} to {positions.max():g} leave the stack of "
            f"{last + 1} slices: give 0 to {last}"
        )
    if method == "nearest":
        return label[np.clip(np.ceil(positions - 0.5), 0, last).astype(int)]
    if method != "distance":
        raise ValueError(f"method '{method}': choose distance or nearest")
    maps = np.stack([signed_distance_maps(each, classes, limit=limit) for each in label])
    low = np.clip(np.floor(positions), 0, max(last - 1, 0)).astype(int)
    weight = (positions - low).reshape(-1, *(1,) * (maps.ndim - 1))
    between = (1 - weight) * maps[low] + weight * maps[np.minimum(low + 1, last)]
    return np.argmin(between, -1).astype(label.dtype)
