"""dSprites: white squares, ellipses and hearts of known size, direction and place, from its file.

Every combination of 3 shapes, 6 scales, 40 orientations and 32 x 32 places occurs once. The file
``dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz`` unpacks to 3 GB, so images are read from it one
after the other and only those that are asked for are kept. Source: Matthey, Higgins, Hassabis &
Lerchner, "dSprites: disentanglement testing sprites dataset", 2017.
"""

import itertools
import pathlib
import zipfile
from typing import Any

import numpy as np
from jaxtyping import Int

from jaxmedgen.data.sources import ArraySource, DatasetInfo, Source

FACTORS = ("shape", "scale", "orientation", "x", "y")
APPEARANCE = 1
"""So many of the factors are appearance, the others perspective."""

_BLOCK = 2**24  # bytes read at once


def dsprites_parts(data: Any) -> tuple[Source, Source, Source]:
    """Training, validation and test images of the file in ``data.folder``, drawn without repeat.

    Records hold ``image [h, w, 1]`` in [0, 1], ``factors`` in the order of `FACTORS` (shape from 0,
    orientation in radians, places from 0 to 1) and ``kind``, the shape.

    Args:
        data: ``folder`` (of the file, or the file itself), ``shape`` of the images, ``seed`` and
            the numbers of ``train``, ``validation`` and ``test`` images.

    Raises:
        ValueError: no such file, another kind of file, or fewer images than asked for.
    """
    counts = (data.train, data.validation, data.test)
    path = _file(data.folder)
    try:
        with np.load(path, allow_pickle=False) as file:
            values = file["latents_values"]
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not dSprites' file: {error}") from error
    if sum(counts) > len(values):
        raise ValueError(
            f"{path} has {len(values)} images: lower data.train={data.train}, "
            f"data.validation={data.validation} or data.test={data.test}"
        )
    chosen = np.random.default_rng(data.seed).choice(len(values), sum(counts), replace=False)
    images = _rows(path, "imgs.npy", chosen)
    if images.shape[1:] != tuple(data.shape):
        raise ValueError(
            f"data.shape={tuple(data.shape)} but {path} holds images of {images.shape[1:]}"
        )
    ends = np.cumsum((0, *counts))
    return tuple(
        _source(chosen[start:end], images[start:end], values)
        for start, end in itertools.pairwise(ends)
    )


def _source(numbers, images, values) -> ArraySource:
    records = []
    for number, image in zip(numbers, images):
        _, shape, *pose = values[number]  # the first factor, colour, is white
        factors = np.array([shape - 1, *pose], np.float32)
        shown = (image[..., None] > 0).astype(np.float32)
        records.append({"image": shown, "factors": factors, "kind": np.int32(shape - 1)})
    names = tuple(f"sprite-{number:06d}" for number in numbers)
    return ArraySource(records, DatasetInfo(("background",), ("ink",), (1.0, 1.0), names))


def _file(folder: str) -> pathlib.Path:
    path = pathlib.Path(folder)
    found = [path] if path.is_file() else sorted(path.glob("dsprites*.npz")) if folder else []
    if not found:
        raise ValueError(
            f"data.folder='{folder}' holds no dsprites*.npz: --config.data.folder=FOLDER of the "
            "file dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
        )
    return found[0]


def _rows(path: pathlib.Path, name: str, wanted: Int[np.ndarray, " n"]) -> np.ndarray:
    """Some rows of an array in an archive, in the order of `wanted`, read block by block."""
    with zipfile.ZipFile(path) as archive, archive.open(name) as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError(f"{path}: {name} has an unknown version")
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
        if by_columns or dtype.hasobject or len(shape) < 2:
            raise ValueError(f"{path}: {name} must be rows of numbers, it is {dtype} {shape}")
        size = int(np.prod(shape[1:])) * dtype.itemsize
        found = np.empty((len(wanted), *shape[1:]), dtype)
        order = np.argsort(wanted)
        places, rows = order, wanted[order]
        block = max(1, _BLOCK // size)
        for start in range(0, shape[0], block):
            count = min(block, shape[0] - start)
            data = stream.read(count * size)
            if len(data) < count * size:
                raise ValueError(f"{path} is cut off: {name} ends at row {start}")
            here = slice(*np.searchsorted(rows, (start, start + count)))
            block_rows = np.frombuffer(data, dtype).reshape(count, *shape[1:])
            found[places[here]] = block_rows[rows[here] - start]
    return found
