"""Clean-up of predicted label maps on the host."""

import numpy as np
from jaxtyping import Int
from scipy import ndimage


def keep_largest_component(label: Int[np.ndarray, "*s"]) -> Int[np.ndarray, "*s"]:
    """Removes all foreground that is not connected to its largest part.

    All classes together are one foreground (26-connected in 3D, 8-connected in 2D): for an organ
    with its parts, such as a brain. Islands, typically in empty corners of the field of view where
    a normalised network sees noise only, become background.
    """
    parts, count = ndimage.label(label > 0, structure=np.ones((3,) * label.ndim))
    if count < 2:
        return label
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.where(parts == sizes.argmax(), label, 0).astype(label.dtype)


def fill_holes(label: Int[np.ndarray, "*s"]) -> Int[np.ndarray, "*s"]:
    """Gives background that foreground encloses on all sides the class nearest to it.

    Enclosed: without a way to the border over voxel faces (in 2D over pixel edges).
    """
    holes = ndimage.binary_fill_holes(label > 0) & (label == 0)
    if not holes.any():
        return label
    nearest = ndimage.distance_transform_edt(
        label == 0, return_distances=False, return_indices=True
    )
    return np.where(holes, label[tuple(nearest)], label).astype(label.dtype)
