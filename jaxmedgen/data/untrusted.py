"""Image files are not trusted: every check a file passes before its voxels are used.

Sizes are compared with the header before memory is taken, compressed files are read on to their
checksum, and each way in which a file can be wrong has one line that names the file, the problem
and the fix. Nothing here unpickles.
"""

import gzip
import pathlib
import zlib
from typing import Any

import nibabel as nib
import numpy as np

SUFFIXES = (".nii.gz", ".nii", ".mgz", ".mgh")
"""File name endings that can be read."""

_MOST_GZIP_CAN_PACK = 1040
"""Bytes that one byte of deflate can stand for (1032) and a little."""


class DataError(ValueError):
    """A file or folder of data is not usable; one line with name, problem and fix."""


def open_image(path: pathlib.Path) -> Any:
    """The image with its header read and its size checked; voxels still on disk."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; check the path")
    if not path.name.lower().endswith(SUFFIXES):
        raise DataError(f"{path}: not a NIfTI file name; convert it to .nii.gz")
    size = path.stat().st_size
    if size == 0:
        raise DataError(f"{path}: the file is empty; copy it again")
    try:
        image = nib.load(path)
    except Exception as error:  # nibabel and the codecs raise many kinds for bad bytes
        raise DataError(
            f"{path}: not a readable NIfTI file ({_one_line(error)}); copy or convert it again"
        ) from error
    if not isinstance(image, nib.Nifti1Pair | nib.MGHImage):
        raise DataError(f"{path}: holds {type(image).__name__}, not NIfTI; convert it to .nii.gz")
    dtype = image.get_data_dtype()
    if dtype.fields is not None or dtype.kind not in "iuf":
        raise DataError(
            f"{path}: voxels of type {dtype} (colour or complex); convert to one number"
        )
    packed = path.name.lower().endswith("gz")
    # Python integers: a damaged header can claim more voxels than an int64 counts.
    claimed = dtype.itemsize
    for n in image.shape:
        claimed *= int(n)
    if claimed > size * (_MOST_GZIP_CAN_PACK if packed else 1):
        raise DataError(
            f"{path}: truncated: the header announces {claimed} bytes of voxels, the file has "
            f"{size}; copy it again"
        )
    return image


def read_voxels(path: pathlib.Path, image: Any) -> np.ndarray:
    """The voxels in the file's own order, with the header's scaling; checksums are verified."""
    try:
        if not path.name.lower().endswith("gz"):
            return np.asanyarray(image.dataobj)
        with gzip.open(path, "rb") as file:
            holder = nib.FileHolder(fileobj=file)
            data = np.asanyarray(type(image).from_file_map({"image": holder}).dataobj)
            while file.read(1 << 20):  # on to the end: there gzip checks its checksum
                pass
            return data
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(
            f"{path}: truncated or damaged ({_one_line(error)}); copy it again"
        ) from error


def checked_affine(path: pathlib.Path, image: Any) -> np.ndarray:
    """Voxel index to mm, float64, known to be invertible and of positive spacing."""
    if isinstance(image, nib.Nifti1Pair):
        spacing = _stored_spacing(path, image)
        if not np.all(np.isfinite(spacing)) or np.any(spacing <= 0):
            raise DataError(
                f"{path}: voxel spacing {tuple(spacing.tolist())} mm is not positive; "
                "correct pixdim in the header"
            )
    affine = np.asarray(image.affine, np.float64)
    if not np.all(np.isfinite(affine)):
        raise DataError(f"{path}: the affine has NaN or infinite entries; correct the header")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    volume = abs(np.linalg.det(affine[:3, :3]))
    if np.any(lengths == 0) or volume < 1e-4 * np.prod(lengths):
        raise DataError(
            f"{path}: the affine cannot be inverted (determinant {volume:.3g}); correct sform and "
            "qform in the header"
        )
    return affine


def _stored_spacing(path: pathlib.Path, image: Any) -> np.ndarray:
    """The spacing as it stands in the file; nibabel quietly turns 0 into 1 and -2 into 2."""
    opened = gzip.open if path.name.lower().endswith("gz") else open
    with opened(path, "rb") as file:
        raw = file.read(image.header.template_dtype.itemsize)
    header = type(image.header)(raw, image.header.endianness, check=False)
    axes = [axis for axis, n in enumerate(image.shape[:3]) if n > 1]
    return np.asarray([header["pixdim"][1 + axis] for axis in axes], float)


def checked_shape(path: pathlib.Path, image: Any) -> tuple[int, ...]:
    """The file's shape with three spatial axes and, at most, one more."""
    shape = tuple(int(n) for n in image.shape)
    if any(n < 1 for n in shape) or len(shape) < 2:
        raise DataError(f"{path}: shape {shape} holds no image; export it again")
    shape += (1,) * (3 - len(shape))
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 4:
        raise DataError(f"{path}: {len(shape)} axes of lengths {shape}; give at most 4")
    return shape


def as_image(path: pathlib.Path, data: np.ndarray) -> np.ndarray:
    """Float32 voxels, all finite."""
    with np.errstate(over="ignore"):
        data = data.astype(np.float32)
    bad = data.size - np.count_nonzero(np.isfinite(data))
    if bad:
        raise DataError(f"{path}: {bad} voxels are NaN or infinite; replace them, say by 0")
    return data


def as_label(path: pathlib.Path, data: np.ndarray) -> np.ndarray:
    """Int32 class values of a 3D map, none negative, none rounded by more than 0.001."""
    if data.ndim != 3:
        raise DataError(
            f"{path}: a label map of shape {data.shape}; give one number a voxel, no fourth axis"
        )
    if data.dtype.kind == "f":
        if not np.all(np.isfinite(data)):
            raise DataError(f"{path}: a label map with NaN or infinite voxels; replace them by 0")
        off = np.abs(data - np.rint(data))
        if off.max() > 1e-3:
            worst = float(data.reshape(-1)[int(off.argmax())])
            raise DataError(
                f"{path}: a label map with value {worst:g}; labels are whole numbers, resample "
                "with nearest neighbour"
            )
        data = np.rint(data)
    low, high = data.min(), data.max()
    if low < 0 or high > np.iinfo(np.int32).max:
        raise DataError(
            f"{path}: a label map with values {low:g} to {high:g}; labels start at 0 (background)"
        )
    return data.astype(np.int32)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:120] or type(error).__name__
