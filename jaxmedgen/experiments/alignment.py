"""Folders of label maps brought into one affine frame, as models of deformations expect them."""

import pathlib
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
import scipy.ndimage
from jaxtyping import Array, Float, Int

from jaxmedgen.data.layouts import Layout, discover
from jaxmedgen.data.nifti import Volume, read_volume, write_volume
from jaxmedgen.data.untrusted import DataError
from jaxmedgen.ops.affine_registration import FAMILY, register_affine
from jaxmedgen.ops.resample import resample

SPACING = 4.0
"""Of the grid that maps are compared on, in mm."""

MARGIN = 8.0
"""Left around the mean's foreground, in mm."""


def align_label_maps(
    folder: pathlib.Path, output: pathlib.Path, classes: Mapping[int, int], frame: Sequence[str]
) -> list[pathlib.Path]:
    """Writes a folder's label maps again, affinely aligned and on one grid of 1 mm.

    The cases of the frame are aligned to each other, the others to their mean, so that held-out
    subjects have no part in it. Voxels keep their values (nearest neighbour); what lies
    outside the field of view becomes 0. Does nothing if the output is there already.

    Args:
        folder: of label maps.
        output: folder for the aligned ones, under the same names.
        classes: value in the files -> class that is compared; others are background.
        frame: names of the cases that are aligned to each other.

    Returns:
        The files.

    Raises:
        DataError: fewer than two cases for the frame, a broken file, or one without foreground.
    """
    layout = discover(folder, contents="labels")
    files = [output / f"{case.name}.nii.gz" for case in layout.cases]
    inside = np.array([case.name in set(frame) for case in layout.cases])
    if inside.sum() != len(frame) or len(frame) < 2:
        raise DataError(f"{folder}: frame={list(frame)}: name two or more of its cases")
    if all(file.exists() for file in files):
        return files
    centres, coarse = _coarse(layout, classes)
    parameters = np.zeros((len(coarse), FAMILY.size(coarse.shape[1:-1])), np.float32)
    parameters[inside] = register_affine(coarse[inside])
    points = FAMILY.coordinates(jnp.asarray(parameters[inside]), coarse.shape[1:-1])
    mean = resample(coarse[inside], points, mode="constant").mean(0)
    if not inside.all():
        parameters[~inside] = register_affine(coarse[~inside], mean)
    matrices = np.asarray(FAMILY.matrix(jnp.asarray(parameters), 3), np.float64)
    half = np.array([(n - 1) / 2 for n in mean.shape[:-1]]) * SPACING
    matrices = np.diag([*half, 1]) @ matrices @ np.diag([*1 / half, 1])  # mm about the centres
    low, count = _box(np.asarray(mean))
    for case, file, centre, matrix in zip(layout.cases, files, centres, matrices):
        volume = read_volume(case.label, label=True)
        write_volume(file, *_moved(volume, centre, matrix, low, count))
    return files


def _coarse(
    layout: Layout, classes: Mapping[int, int]
) -> tuple[list[np.ndarray], Float[Array, "b d h w c"]]:
    """Centre of mass of each foreground in mm, and classes as channels on a grid about it."""
    centres, tissues, affines, reach = [], [], [], np.zeros(3)
    for case in layout.cases:
        volume = read_volume(case.label, label=True)
        tissue = _classes(volume.array, classes)
        if tissue.ndim != 3 or not tissue.any():
            raise DataError(f"{case.label}: no 3D map with foreground of the classes to align")
        world = np.argwhere(tissue) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        centres.append(world.mean(0))
        reach = np.maximum(reach, np.abs(world - world.mean(0)).max(0))
        tissues.append(tissue)
        affines.append(volume.affine)
    shape = (2 * np.ceil(reach / SPACING) + 1).astype(int)
    grid = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij"))
    images = []
    for tissue, affine, centre in zip(tissues, affines, centres):
        inverse = np.linalg.inv(affine)
        world = np.moveaxis(grid, 0, -1) * SPACING + centre
        voxels = world @ inverse[:3, :3].T + inverse[:3, 3]
        # Linear, as the nearest of coarse voxels would shift a subject by up to half of one.
        places = np.moveaxis(voxels, -1, 0)
        images.append(
            [
                scipy.ndimage.map_coordinates((tissue == k).astype(np.float32), places, order=1)
                for k in range(1, max(classes.values()) + 1)
            ]
        )
    return centres, jnp.asarray(np.moveaxis(images, 1, -1), jnp.float32)


def _classes(values: Int[np.ndarray, "..."], classes: Mapping[int, int]) -> np.ndarray:
    table = np.zeros(int(max(values.max(), *classes)) + 1, np.int16)
    for value, number in classes.items():
        table[value] = number
    return table[values]


def _box(mean: Float[np.ndarray, "d h w c"]) -> tuple[np.ndarray, np.ndarray]:
    """Lower corner in mm and size in voxels of 1 mm of the grid that is written."""
    where = np.argwhere(mean.sum(-1) > 0.01)
    centre = (np.array(mean.shape[:3]) - 1) / 2
    low, high = (where.min(0) - centre) * SPACING - MARGIN, (where.max(0) - centre) * SPACING
    return low, np.ceil(high + MARGIN - low).astype(int) + 1


def _moved(
    volume: Volume, centre: np.ndarray, matrix: np.ndarray, low: np.ndarray, count: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A label map on the common grid, and that grid's affine."""
    shift = np.eye(4)
    shift[:3, 3] = low
    back = np.eye(4)
    back[:3, 3] = centre
    whole = np.linalg.inv(volume.affine) @ back @ matrix @ shift
    array = scipy.ndimage.affine_transform(
        volume.array, whole[:3, :3], whole[:3, 3], tuple(count), order=0, mode="constant"
    )
    return array, shift
