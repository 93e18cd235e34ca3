"""Rigid alignment of binary shapes by least squares, on the host."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

_COARSE = 32
"""Voxels along the longest axis of the grid that is searched on."""
_SMOOTH = 1.0
"""Standard deviation of the blur in its voxels: without one, a step changes nothing."""


def rigid_alignment(
    mask: Bool[np.ndarray, "d h w"],
    template: Bool[np.ndarray, "d h w"],
    spacing: Sequence[float | int],
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """The rigid map under which a shape looks like a template, by Powell's method.

    Args:
        mask: a shape near the middle of the field of view, turned by less than about 40 degrees.
        template: on the same grid.
        spacing: mm a voxel.

    Returns:
        Rotation R and shift t in mm: the aligned shape shows at x what `mask` has at ``R x + t``,
        positions being relative to the middle of the field of view.

    Raises:
        ValueError: another grid, or an empty shape.
    """
    if mask.shape != template.shape:
        raise ValueError(f"template of {template.shape} voxels for {mask.shape}: give one grid")
    if not mask.any() or not template.any():
        raise ValueError("an empty mask or template cannot be aligned: give one with foreground")
    factor = min(1.0, _COARSE / max(mask.shape))
    images = []
    for shape in (mask, template):
        blurred = ndimage.gaussian_filter(shape.astype(np.float32), _SMOOTH / factor)
        images.append(ndimage.zoom(blurred, factor, order=1, grid_mode=True, mode="nearest"))
    moving, fixed = images
    size = np.asarray(spacing, float) * mask.shape / fixed.shape
    middle = (np.asarray(fixed.shape) - 1) / 2

    def placed(parameters):
        turn = Rotation.from_rotvec(parameters[:3] / 10).as_matrix()
        return turn, parameters[3:] * size

    def difference(parameters):
        turn, shift = placed(parameters)
        matrix = turn * size / size[:, None]
        offset = middle + shift / size - matrix @ middle
        return float(
            ((ndimage.affine_transform(moving, matrix, offset, order=1) - fixed) ** 2).sum()
        )

    found = optimize.minimize(
        difference, np.zeros(6), method="Powell", options={"xtol": 0.01, "ftol": 1e-5}
    )
    return placed(found.x)
