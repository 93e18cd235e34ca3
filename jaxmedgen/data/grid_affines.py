"""Where the voxels of a subject of a source lie in mm, for files that derive from it.

Subjects of a folder keep origin and orientation of their files through crop, resampling and pad;
what has no files (phantoms, generated subjects) stands upright with its first voxel at 0.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from jaxmedgen.data.label_images import LabelImages
from jaxmedgen.data.simulated import SimulatedScans
from jaxmedgen.data.sources import (
    ArraySource,
    ImagesOnly,
    Relabelled,
    Source,
    Standardized,
    Subset,
)

_SAME_GRID = (ImagesOnly, LabelImages, Relabelled, SimulatedScans, Standardized)
"""Sources that show the subjects of another one, in its order and on its grids."""

_SAME = 1e-3
"""mm by which entries of equal affines may differ: headers hold single precision."""


def upright(spacing: Sequence[float | int]) -> Float[np.ndarray, "4 4"]:
    """The affine of a grid without orientation: the spacing, 1 mm on axes that it lacks."""
    return np.diag([*map(float, spacing), *[1.0] * (4 - len(spacing))])


def affine_of(source: Source, index: int) -> Float[np.ndarray, "4 4"]:
    """From voxels of a subject's arrays to mm (RAS+) in its files' space.

    Args:
        source: of the subject; a folder, or a view of one that keeps its grids.
        index: of the subject.

    Returns:
        Columns are the array's axes in order; a 2D subject's third column is its slice axis. Of
        subjects without files, `upright`.
    """
    if isinstance(source, Subset):
        return affine_of(source.source, source.indices[index])
    if isinstance(source, _SAME_GRID):
        return affine_of(source.source, index)
    if isinstance(source, ArraySource) and source.origin is not None:
        return affine_of(source.origin, index)
    own = getattr(source, "affine_of", None)
    return upright(source.info.spacing) if own is None else own(index)


def common_affine(source: Source) -> Float[np.ndarray, "4 4"]:
    """The affine of a population: its subjects' where all have one, else `upright`."""
    if not len(source):
        return upright(source.info.spacing)
    first = affine_of(source, 0)
    for index in range(1, len(source)):
        if not np.allclose(affine_of(source, index), first, atol=_SAME):
            return upright(source.info.spacing)
    return first
