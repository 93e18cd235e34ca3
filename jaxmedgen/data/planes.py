"""Two-dimensional planes of a head with their volume: reading, one fixed field of view, folds.

A folder of planes has ``planes/NAME_axial.nii.gz``, ``NAME_sagittal.nii.gz``,
``NAME_coronal.nii.gz`` (any of them may be missing) and, for training, ``labels/NAME.nii.gz``.
Everything is resampled onto a grid over one field of view in mm: resizing each case by itself would
destroy the size of the head, which tells its age. Volumes of one subject
(``sub-ID_...``) never part between training and test.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from scipy import ndimage

from jaxmedgen.data.nifti import is_volume_file, read_volume, stem
from jaxmedgen.data.sources import DatasetInfo, Record, Source, in_memory, subset
from jaxmedgen.data.splits import k_fold
from jaxmedgen.data.untrusted import DataError

VIEWS = ("axial", "sagittal", "coronal")
FIELD_OF_VIEW = 150.0
"""mm along every axis: the largest fetal heads with their faces."""
VIEW_AXES = ((0, 1), (1, 2), (0, 2))
"""In-plane axes of each view: left to right 0, posterior to anterior 1, inferior to superior 2."""
_WHITE = 99.5
"""Percentile of a plane that becomes 1."""


def unit_range(plane: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """A plane with 0 kept and its 99.5th percentile at 1, cut off there; idempotent."""
    # A value of the plane, no interpolation: a second time it is 1.
    white = np.percentile(plane, _WHITE, method="lower")
    return np.clip(plane / white if white > 0 else plane, 0, 1).astype(np.float32)


def to_field_of_view(
    array: Shaped[np.ndarray, "*s"],
    spacing: Sequence[float | int],
    size: int,
    centre: Sequence[float | int] | None = None,
) -> Float[np.ndarray, "*o"]:
    """An image on ``size`` voxels an axis over the field of view, 0 outside of it.

    Linear; where voxels grow, the image is smoothed first.

    Args:
        array: 2D or 3D.
        spacing: mm an axis.
        size: voxels an axis of the result.
        centre: voxel that comes to the middle; the image's middle by default.
    """
    step = FIELD_OF_VIEW / size / np.asarray(spacing, np.float64)
    middle = (np.asarray(array.shape) - 1) / 2 if centre is None else np.asarray(centre)
    values = array.astype(np.float32)
    if np.any(step > 1.01):
        values = ndimage.gaussian_filter(values, np.maximum(step - 1, 0) / 2, mode="constant")
    offset = middle - step * (size - 1) / 2
    shape = (size,) * array.ndim
    return ndimage.affine_transform(values, step, offset, shape, order=1, mode="constant")


def read_plane(path: pathlib.Path, size: int) -> Float[np.ndarray, "n n"]:
    """One plane on the common grid, in [0, 1].

    Raises:
        DataError: no readable image, more than one slice, or nothing in it.
    """
    volume = read_volume(path)
    if volume.array.ndim != 2 or len(volume.spacing) != 2:
        raise DataError(f"{path}: shape {volume.file_shape} is no single slice: give one 2D plane")
    if not np.any(volume.array > 0):
        raise DataError(f"{path}: the plane is empty (no value above 0): leave the view out")
    return unit_range(to_field_of_view(volume.array, volume.spacing, size))


def read_planes(
    paths: Mapping[str, pathlib.Path], size: int
) -> tuple[Float[np.ndarray, "n n v"], Float[np.ndarray, " v"]]:
    """Planes of a case, zeros where a view is missing, and which views there are.

    Args:
        paths: file of each view there is.
        size: pixels an axis.

    Raises:
        DataError: a broken file, or no view at all.
    """
    if not paths:
        raise DataError(f"no plane of any view: give at least one of {', '.join(VIEWS)}")
    planes = np.zeros((size, size, len(VIEWS)), np.float32)
    available = np.zeros(len(VIEWS), np.float32)
    for number, view in enumerate(VIEWS):
        if view in paths:
            planes[..., number] = read_plane(paths[view], size)
            available[number] = 1
    return planes, available


def find_planes(folder: pathlib.Path) -> dict[str, dict[str, pathlib.Path]]:
    """Files by case and view of a folder with ``NAME_VIEW.nii.gz``, cases in order.

    Raises:
        DataError: no folder, no such files, or files of another view.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of planes")
    cases: dict[str, dict[str, pathlib.Path]] = {}
    for path in sorted(p for p in folder.iterdir() if is_volume_file(p)):
        name, _, view = stem(path).rpartition("_")
        if view not in VIEWS or not name:
            raise DataError(f"{path}: name it NAME_VIEW.nii.gz with a view of {', '.join(VIEWS)}")
        cases.setdefault(name, {})[view] = path
    if not cases:
        raise DataError(f"{folder}: no NIfTI files NAME_VIEW.nii.gz")
    return dict(sorted(cases.items()))


@dataclasses.dataclass(frozen=True)
class PlaneFolder:
    """Cases of a folder: planes, which of them there are, and the volume.

    Attributes:
        folder: with ``planes/`` and ``labels/``.
        size: voxels an axis of all.
    """

    folder: pathlib.Path
    size: int

    def __post_init__(self) -> None:
        missing = [name for name in self._cases if self._label(name) is None]
        if missing:
            raise DataError(
                f"{self.folder / 'labels'}: no volume of {', '.join(missing[:5])}: add it or "
                "remove the planes"
            )

    @property
    def _cases(self) -> dict[str, dict[str, pathlib.Path]]:
        return find_planes(self.folder / "planes")

    def _label(self, name: str) -> pathlib.Path | None:
        found = (self.folder / "labels").glob(f"{name}.*")
        return next((p for p in sorted(found) if is_volume_file(p)), None)

    @property
    def info(self) -> DatasetInfo:
        """Views as channels."""
        spacing = (FIELD_OF_VIEW / self.size,) * 3
        return DatasetInfo(("background", "skull"), VIEWS, spacing, tuple(self._cases))

    def __len__(self) -> int:
        return len(self._cases)

    def __getitem__(self, index: int) -> Record:
        """``planes``, ``available`` and ``label``, whose mask's middle is the grid's.

        Raises:
            DataError: a broken file or an empty mask.
        """
        name, paths = list(self._cases.items())[index]
        planes, available = read_planes(paths, self.size)
        return {"planes": planes, "available": available, "label": self._read_label(name)}

    def _read_label(self, name):
        return read_mask(self._label(name), self.size)


def read_mask(path: pathlib.Path, size: int) -> Shaped[np.ndarray, "n n n"]:
    """The mask of a 3D label file on the common grid, the middle of its box in the grid's middle.

    Raises:
        DataError: a broken file, one without three axes, or an empty mask.
    """
    volume = read_volume(path, label=True)
    mask = volume.array > 0
    if mask.ndim != 3:
        raise DataError(f"{path}: shape {volume.file_shape} is no volume: give three axes")
    if not mask.any():
        raise DataError(f"{path}: the mask is empty: there is no skull to learn or to score")
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    # Moved by whole voxels: a mask on the common grid already is not blurred.
    middle = (np.asarray(mask.shape) - 1) / 2
    centre = middle + np.rint([(s.start + s.stop - 1) / 2 for s in box] - middle)
    return (to_field_of_view(mask, volume.spacing, size, tuple(centre)) > 0.5).astype(np.int32)


def plane_parts(data: Any) -> tuple[Source, Source, Source]:
    """Training, validation and test cases of ``config.data`` with ``data.planes``.

    Phantoms, or the folder ``data.folder``. With ``data.folds`` the cases (``data.train`` and
    ``data.test`` of the phantoms together) are divided by fetus, and fold ``data.fold`` is the test
    set; phantoms of several ``data.scans`` a fetus are always divided so.

    Raises:
        ValueError: a fold that there is not, or test cases with several scans but no folds.
    """
    from jaxmedgen.data.phantoms.fetal_skull import FetalSkull

    size = data.shape[0]
    settings = {"shell": data.shell, "shadow": data.shadow, "scans": data.scans}
    if not data.folder and not data.folds:
        if data.scans > 1:
            raise ValueError(
                f"data.scans={data.scans} volumes a fetus need folds: set data.folds, say to 3"
            )
        counts = (data.train, data.validation, data.test)
        starts = (0, data.train, data.train + data.validation)
        return tuple(
            in_memory(FetalSkull(count, tuple(data.shape), data.seed, start, **settings))
            for count, start in zip(counts, starts)
        )
    if data.folder:
        source: Source = in_memory(PlaneFolder(pathlib.Path(data.folder), size))
    else:
        count = (data.train + data.test) * data.scans
        source = in_memory(FetalSkull(count, tuple(data.shape), data.seed, 0, **settings))
    folds = data.folds or 3
    if not 0 <= data.fold < folds:
        raise ValueError(f"data.fold={data.fold}: choose 0 to {folds - 1}")
    names = source.info.case_names
    split = k_fold(names, folds, seed=data.seed)[data.fold]
    number = {name: i for i, name in enumerate(names)}
    train, test = (subset(source, [number[n] for n in part]) for part in split)
    return train, subset(source, []), test
