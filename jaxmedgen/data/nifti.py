"""NIfTI in and out: volumes in RAS+ orientation, predictions back on the input's own grid.

Inside the package every volume is turned (axes permuted and flipped, never interpolated) so that
array axes run left to right, posterior to anterior, inferior to superior; `write_like` undoes this
and keeps the input's affine, qform and sform to the bit. What a file must satisfy is in
`untrusted.py`.

Format: https://nifti.nimh.nih.gov/nifti-1; FreeSurfer's MGH/MGZ is read as well.
"""

import dataclasses
import gzip
import os
import pathlib
from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Float, Shaped
from nibabel import orientations

from jaxmedgen.data import untrusted
from jaxmedgen.data.atomic import write_atomically
from jaxmedgen.data.untrusted import SUFFIXES, DataError


@dataclasses.dataclass(frozen=True)
class Volume:
    """A scan or label map in RAS+ orientation that remembers the file it came from.

    Attributes:
        array: `[*space]`, or `[*space, c]` for files with a fourth axis; float32, or int32 for
            labels. A file that is one slice (an axis of length 1) has two spatial axes.
        affine: voxel index to mm, RAS+; three index axes, also for a single slice.
        spacing: mm a spatial axis of `array`.
        path: the file.
        slice_axis: the RAS+ axis left out of a single slice, else None.
        file_shape: shape in the file.
        file_dtype: voxel type in the file.
        file_header: the file's NIfTI header; None for other formats.
        file_affine: voxel index to mm of the file.
    """

    array: Shaped[np.ndarray, "..."]
    affine: Float[np.ndarray, "4 4"]
    spacing: tuple[float, ...]
    path: pathlib.Path
    slice_axis: int | None
    file_shape: tuple[int, ...]
    file_dtype: np.dtype
    file_header: Any = dataclasses.field(repr=False)
    file_affine: Float[np.ndarray, "4 4"]

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Shape without the channel axis."""
        return self.array.shape[: len(self.spacing)]


def read_volume(path: str | os.PathLike, *, label: bool = False) -> Volume:
    """Reads a NIfTI (or MGH) file and turns it to RAS+.

    Args:
        path: `.nii`, `.nii.gz`, `.mgh` or `.mgz`.
        label: reads a label map: integer values, no channels.

    Raises:
        DataError: the file is missing, empty, truncated, damaged or of another format; has a
            header that cannot be right, NaN or infinite voxels; or is no label map where one is
            asked for.
    """
    path = pathlib.Path(path)
    image = untrusted.open_image(path)
    affine = untrusted.checked_affine(path, image)
    shape = untrusted.checked_shape(path, image)
    data = untrusted.read_voxels(path, image).reshape(shape)
    data = untrusted.as_label(path, data) if label else untrusted.as_image(path, data)

    to_ras = orientations.io_orientation(affine)
    data = orientations.apply_orientation(data, to_ras)
    canonical = affine @ orientations.inv_ornt_aff(to_ras, shape[:3])
    spacing = tuple(float(s) for s in nib.affines.voxel_sizes(canonical))
    singles = [axis for axis in range(3) if data.shape[axis] == 1]
    slice_axis = singles[0] if len(singles) == 1 else None
    if slice_axis is not None:
        data = np.squeeze(data, slice_axis)
        spacing = tuple(s for axis, s in enumerate(spacing) if axis != slice_axis)
    return Volume(
        array=np.ascontiguousarray(data),
        affine=canonical,
        spacing=spacing,
        path=path,
        slice_axis=slice_axis,
        file_shape=tuple(int(n) for n in image.shape),
        file_dtype=np.dtype(image.get_data_dtype()),
        file_header=image.header.copy() if isinstance(image, nib.Nifti1Pair) else None,
        file_affine=affine,
    )


def read_grid(path: str | os.PathLike) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Spatial shape and spacing in mm, as `read_volume` gives them, from the header alone.

    Raises:
        DataError: as `read_volume`, as far as the header tells.
    """
    path = pathlib.Path(path)
    image = untrusted.open_image(path)
    affine = untrusted.checked_affine(path, image)
    shape = untrusted.checked_shape(path, image)[:3]
    to_ras = orientations.io_orientation(affine)
    order = np.argsort(to_ras[:, 0])
    spacing = nib.affines.voxel_sizes(affine)
    grid = [(shape[axis], float(spacing[axis])) for axis in order]
    if sum(n == 1 for n, _ in grid) == 1:
        grid = [(n, s) for n, s in grid if n != 1]
    return tuple(n for n, _ in grid), tuple(s for _, s in grid)


def write_like(path: str | os.PathLike, array: Shaped[np.ndarray, "..."], original: Volume) -> None:
    """Writes an array that lies on `original.array`'s grid as a file on the original file's grid.

    Orientation and slice axis are undone; affine, qform, sform and their codes are the original
    file's, to the bit. Header extensions and free text are not copied (they may name the patient).

    Args:
        path: `.nii` or `.nii.gz`; appears whole or not at all.
        array: `[*space]` or `[*space, c]`. Integers are stored in the smallest integer type that
            holds them, floats as float32.
        original: a volume from `read_volume`.

    Raises:
        DataError: shape or file name do not fit.
        OSError: the file cannot be written.
    """
    space = original.spatial_shape
    if array.shape[: len(space)] != space or array.ndim > len(space) + 1:
        raise DataError(
            f"{path}: an array of shape {array.shape} is not on the grid {space} of "
            f"{original.path}; undo crops and resampling first"
        )
    channels = array.shape[len(space) :]
    if original.slice_axis is not None:
        array = np.expand_dims(array, original.slice_axis)
    from_ras = orientations.ornt_transform(
        orientations.axcodes2ornt("RAS"), orientations.io_orientation(original.file_affine)
    )
    array = orientations.apply_orientation(array, from_ras)
    if not channels and len(original.file_shape) < 3:
        array = array.reshape(original.file_shape)
    array = _narrowed(array)
    if original.file_header is None:
        _write_image(path, _plain_image(array, original.file_affine))
        return
    header = original.file_header.copy()
    header.extensions.clear()
    for field in ("descrip", "aux_file", "db_name", "data_type"):
        if field in header.keys():
            header[field] = b""
    header["cal_min"] = header["cal_max"] = 0
    header.set_intent("none")
    header.set_data_dtype(array.dtype)
    header.set_slope_inter(1, 0)
    version = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    # With affine=None nibabel keeps the header's own qform and sform.
    _write_image(path, version(array, None, header))


def write_volume(
    path: str | os.PathLike, array: Shaped[np.ndarray, "..."], affine: Float[np.ndarray, "4 4"]
) -> None:
    """Writes a volume that has no original, say a generated one.

    Args:
        path: `.nii` or `.nii.gz`; appears whole or not at all.
        array: `[*space]` or `[*space, c]` with three spatial axes, or `[h, w]`.
        affine: voxel index to mm, RAS+ world; `numpy.diag([*spacing, 1.0])` for an upright one.

    Raises:
        DataError: the file name is not NIfTI.
        OSError: the file cannot be written.
    """
    _write_image(path, _plain_image(_narrowed(array), affine))


def stem(path: str | os.PathLike) -> str:
    """File name without folder and image suffix: `scans/ab.c.nii.gz` -> `ab.c`."""
    name = pathlib.Path(path).name
    return next((name[: -len(s)] for s in SUFFIXES if name.lower().endswith(s)), name)


def is_volume_file(path: str | os.PathLike) -> bool:
    """Whether the file name is one that `read_volume` reads; hidden files are not."""
    name = pathlib.Path(path).name
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _narrowed(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    for dtype in (np.uint8, np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return array.astype(dtype)
    return array.astype(np.int64)


def _plain_image(array: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    image = nib.Nifti1Image(array, affine, dtype=array.dtype)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    return image


def _write_image(path: str | os.PathLike, image: Any) -> None:
    name = pathlib.Path(path).name.lower()
    if not name.endswith((".nii", ".nii.gz")):
        raise DataError(f"{path}: predictions are written as .nii or .nii.gz; change the name")

    def write(file: Any) -> None:
        if name.endswith(".nii"):
            image.to_stream(file)
            return
        # No name and time inside: equal arrays give equal files.
        with gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as packed:
            image.to_stream(packed)

    write_atomically(path, write)
