"""Handwritten digits from a folder of IDX files, seen under known rotation and shift.

Files are those of MNIST (``train-images-idx3-ubyte.gz``, ``t10k-labels-idx1-ubyte.gz``, ...),
packed by gzip or not. Source of the format: LeCun, Cortes & Burges, "The MNIST database".
"""

import dataclasses
import functools
import gzip
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Integer
from scipy import ndimage

from jaxmedgen.data.randomness import sample_generator
from jaxmedgen.data.sources import DatasetInfo, Record, Source, in_memory, subset

FACTORS = ("digit", "rotation", "shift0", "shift1")
APPEARANCE = 1
"""So many of the factors are appearance, the others perspective."""

_PARTS = ("train", "t10k")
_LARGEST = 2**28  # bytes of one unpacked file


@dataclasses.dataclass(frozen=True)
class Digits:
    """Some digits of a folder, each turned and shifted by numbers of (seed, index).

    Attributes:
        folder: holds images and labels of ``train``, of ``t10k``, or of both (in this order).
        first: number of the first digit.
        size: number of digits.
        seed: of rotations and shifts.
        rotation: largest angle in degrees.
        shift: largest shift, in parts of the picture.
    """

    folder: str
    first: int
    size: int
    seed: int = 0
    rotation: float | int = 20
    shift: float | int = 0.1

    def __post_init__(self) -> None:
        available = len(read_digits(self.folder)[1])
        if self.first < 0 or self.size < 0 or self.first + self.size > available:
            raise ValueError(
                f"digits {self.first} to {self.first + self.size} are wanted, {self.folder} has "
                f"{available}: lower data.train, data.validation or data.test"
            )

    @property
    def info(self) -> DatasetInfo:
        """One channel; the digits are in ``factors``, not in label maps."""
        return DatasetInfo(
            class_names=("background",),
            channel_names=("ink",),
            spacing=(1.0, 1.0),
            case_names=tuple(f"digit-{self.first + i:06d}" for i in range(self.size)),
        )

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Record:
        """``image`` in [0, 1], ``factors`` in the order of `FACTORS` (radians), ``kind``: digit."""
        rng = sample_generator(self.seed, self.first, index, self.size)
        images, labels = read_digits(self.folder)
        number = self.first + int(index)
        angle = np.deg2rad(rng.uniform(-self.rotation, self.rotation))
        shift = rng.uniform(-self.shift, self.shift, 2)
        image = images[number].astype(np.float32) / 255
        kind = np.int32(labels[number])
        factors = np.array([labels[number], angle, *shift], np.float32)
        if not (self.rotation or self.shift):
            return {"image": image[..., None], "factors": factors, "kind": kind}
        cos, sin = np.cos(angle), np.sin(angle)
        matrix = np.array([[cos, sin], [-sin, cos]])
        centre = (np.asarray(image.shape) - 1) / 2
        offset = centre - matrix @ (centre + shift * image.shape)
        moved = ndimage.affine_transform(image, matrix, offset, order=1)
        return {"image": moved[..., None], "factors": factors, "kind": kind}


def digit_parts(data: Any) -> tuple[Source, Source, Source]:
    """Training, validation and test digits of ``data.folder``, in memory.

    Digits come in the order of the files; with ``data.balanced`` training and validation have the
    first ones of each class. ``data.rotation`` (degrees) and ``data.shift`` (parts of the picture)
    are the largest of their poses; 0 shows digits as they are. ``data.test`` of -1 tests on all
    digits that are left: on the test part alone where a folder has both parts of MNIST.

    Raises:
        ValueError: fewer digits than asked for, or numbers that the classes cannot share.
    """
    counts = {"train": data.train, "validation": data.validation, "test": data.test}
    pose = {"rotation": data.get("rotation", 20), "shift": data.get("shift", 0.1)}
    balanced = data.get("balanced", False)
    if not balanced and data.test >= 0:
        starts = np.cumsum([0, *counts.values()])
        return tuple(
            in_memory(Digits(data.folder, int(first), size, data.seed, **pose))
            for first, size in zip(starts, counts.values())
        )
    labels, end = read_digits(data.folder)[1], _training_digits(data.folder)
    order = _by_turns(labels[:end]) if balanced else np.arange(end)
    seen, kinds = data.train + data.validation, len(np.unique(labels))
    left = np.setdiff1d(np.arange(len(labels)), order[:seen])
    left = left[left >= end] if end < len(labels) else left
    if balanced and (data.train % kinds or data.validation % kinds):
        raise ValueError(
            f"data.train={data.train}, data.validation={data.validation} with data.balanced: give "
            f"multiples of the {kinds} classes"
        )
    if seen > len(order) or data.test > len(left):
        raise ValueError(
            f"{data.folder} has {len(order)} digits to train with{' by class' if balanced else ''} "
            f"and {len(left)} others to test on: lower data.train={data.train}, "
            f"data.validation={data.validation} or data.test={data.test} (-1: all that are left)"
        )
    tested = left if data.test < 0 else left[: data.test]
    everything = Digits(data.folder, 0, len(labels), data.seed, **pose)
    parts = order[: data.train], order[data.train : seen], tested
    return tuple(in_memory(subset(everything, np.sort(part).tolist())) for part in parts)


def _by_turns(labels: Integer[np.ndarray, " n"]) -> Integer[np.ndarray, " m"]:
    """Numbers of the first digit of each class, then of the second one, as far as all have some."""
    own = [np.flatnonzero(labels == kind) for kind in np.unique(labels)]
    fewest = min(len(numbers) for numbers in own)
    return np.stack([numbers[:fewest] for numbers in own], 1).ravel()


def _training_digits(folder: str) -> int:
    """How many of a folder's digits may train: those of ``train`` where ``t10k`` is there, too."""
    sizes = []
    for part in _PARTS:
        labels = _read(folder, f"{part}-labels-idx1-ubyte", 1)
        sizes.append(0 if labels is None else len(labels))
    return sizes[0] if all(sizes) else sum(sizes)


@functools.lru_cache(maxsize=2)
def read_digits(folder: str) -> tuple[np.ndarray, np.ndarray]:
    """All images ``[n, h, w]`` and labels ``[n]`` of a folder, uint8.

    Raises:
        ValueError: no such files, or files that do not belong together.
    """
    found = []
    for part in _PARTS:
        images = _read(folder, f"{part}-images-idx3-ubyte", 3)
        labels = _read(folder, f"{part}-labels-idx1-ubyte", 1)
        if (images is None) != (labels is None) or (
            images is not None and len(images) != len(labels)
        ):
            raise ValueError(f"{folder}: images and labels of '{part}' do not belong together")
        if images is not None:
            found.append((images, labels))
    if not found:
        raise ValueError(
            f"{folder or 'data.folder'} holds no MNIST files: --data must name a folder with "
            "t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz (or train-...)"
        )
    return tuple(np.concatenate(parts) for parts in zip(*found))


def _read(folder: str, name: str, axes: int) -> np.ndarray | None:
    """An IDX file of bytes, or None where there is none."""
    for path in (pathlib.Path(folder) / f"{name}.gz", pathlib.Path(folder) / name):
        if path.is_file():
            with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
                data = file.read(_LARGEST + 1)
            break
    else:
        return None
    header = 4 + 4 * axes
    if len(data) > _LARGEST or len(data) < header or data[:4] != bytes((0, 0, 8, axes)):
        raise ValueError(f"{path} is no IDX file of bytes with {axes} axes")
    shape = tuple(int(n) for n in np.frombuffer(data, ">i4", axes, 4))
    if min(shape) < 0 or int(np.prod(shape, dtype=np.int64)) != len(data) - header:
        raise ValueError(f"{path} has {len(data) - header} bytes of data, its header says {shape}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
