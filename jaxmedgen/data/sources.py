"""Sources: random-access sequences of subjects, the one thing the pipeline and experiments read.

A source knows nothing of training. `Source` is a protocol; folders, phantoms and TFDS builders
implement it. `ArraySource` holds subjects in memory and `subset` selects some of them.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

Record = Mapping[str, np.ndarray]
"""One subject: ``image`` float32 ``[*space, c]`` and/or ``label`` int32 ``[*space]``.

Where subjects differ in their voxel size, ``spacing`` float32 ``[axes]`` is its own, in mm.
"""


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What a network and a report must know of a data set besides its arrays.

    Attributes:
        class_names: one name a label value; index 0 is the background.
        channel_names: one name an image channel; empty for label-only sets.
        spacing: voxel size in mm, one number a spatial axis.
        case_names: one name a subject, in order.
    """

    class_names: tuple[str, ...]
    channel_names: tuple[str, ...]
    spacing: tuple[float, ...]
    case_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """Number of label values, background included."""
        return len(self.class_names)


@runtime_checkable
class Source(Protocol):
    """Random access to subjects; the same index always gives the same arrays."""

    @property
    def info(self) -> DatasetInfo:
        """Class, channel and case names, spacing."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...


@dataclasses.dataclass(frozen=True)
class ArraySource:
    """Subjects held in memory.

    Attributes:
        records: one a subject.
        info: of all.
        origin: the source that they were read from, in the same order, if it says where their
            voxels lie (`data.grid_affines`).
    """

    records: Sequence[Record]
    info: DatasetInfo
    origin: Source | None = None

    def __post_init__(self) -> None:
        if len(self.records) != len(self.info.case_names):
            raise ValueError(
                f"{len(self.records)} records but {len(self.info.case_names)} case names: "
                "give one name a record"
            )

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        return self.records[index]


@dataclasses.dataclass(frozen=True)
class Wrapped(abc.ABC):
    """Another source whose records are read in another way, one for one.

    Attributes:
        source: the subjects.
    """

    source: Source

    @property
    def info(self) -> DatasetInfo:
        """The parent's, where a class does not change it."""
        return self.source.info

    def __len__(self) -> int:
        return len(self.source)

    @abc.abstractmethod
    def __getitem__(self, index: int) -> Record: ...


@dataclasses.dataclass(frozen=True)
class Subset:
    """Some subjects of another source, in the given order."""

    source: Source
    indices: tuple[int, ...]

    @property
    def info(self) -> DatasetInfo:
        """The parent's info with the selected case names."""
        info = self.source.info
        return dataclasses.replace(info, case_names=tuple(info.case_names[i] for i in self.indices))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Record:
        return self.source[self.indices[index]]


def subset(source: Source, indices: Sequence[int]) -> Subset:
    """The subjects `indices` of `source`.

    Raises:
        ValueError: an index is outside the source.
    """
    bad = [i for i in indices if not 0 <= i < len(source)]
    if bad:
        raise ValueError(f"indices {bad} are outside the source of {len(source)} subjects")
    return Subset(source, tuple(int(i) for i in indices))


@dataclasses.dataclass(frozen=True)
class Relabelled(Wrapped):
    """Another source whose label values are merged into coarser classes.

    Attributes:
        target_of: class of each label value of `source`.
        class_names: of the classes.
    """

    target_of: tuple[int, ...]
    class_names: tuple[str, ...]

    @property
    def info(self) -> DatasetInfo:
        """The parent's info with the new class names."""
        return dataclasses.replace(self.source.info, class_names=self.class_names)

    def __getitem__(self, index: int) -> Record:
        record = self.source[index]
        return {**record, "label": np.asarray(self.target_of, np.int32)[record["label"]]}


@dataclasses.dataclass(frozen=True)
class ImagesOnly(Wrapped):
    """Another source whose records have their image and nothing else."""

    def __getitem__(self, index: int) -> Record:
        return {"image": self.source[index]["image"]}


def relabel(source: Source, target_of: Sequence[int], class_names: Sequence[str]) -> Relabelled:
    """`source` with label value v shown as class ``target_of[v]``.

    Raises:
        ValueError: a label without a class, or classes and names that do not fit.
    """
    if len(target_of) != source.info.num_classes:
        raise ValueError(
            f"target_of names a class for {len(target_of)} labels, the data set has "
            f"{source.info.num_classes}: {', '.join(source.info.class_names)}"
        )
    if sorted(set(target_of)) != list(range(len(class_names))):
        raise ValueError(
            f"target_of has the classes {sorted(set(target_of))} but {len(class_names)} are named"
        )
    return Relabelled(source, tuple(target_of), tuple(class_names))


@dataclasses.dataclass(frozen=True)
class Checked(Wrapped):
    """Another source whose records are checked as they are read.

    Attributes:
        check: raises a ValueError for a record that cannot be used.
    """

    check: Callable[[Record], None]

    def __getitem__(self, index: int) -> Record:
        record = self.source[index]
        self.check(record)
        return record


def spacing_of(source: Source, record: Record) -> tuple[float, ...]:
    """Voxel size in mm of one subject of a source: its own, or else that of all."""
    return tuple(float(s) for s in record.get("spacing", source.info.spacing))


def unmapped(record: Record) -> dict[str, np.ndarray]:
    """A record whose arrays are in memory: a mapped one holds a file descriptor while it lives."""
    return {n: np.array(a) if isinstance(a, np.memmap) else a for n, a in record.items()}


def in_memory(source: Source) -> ArraySource:
    """All subjects of `source`, read once and kept in memory."""
    return ArraySource([unmapped(source[i]) for i in range(len(source))], source.info, source)


def joined(sources: Sequence[Source]) -> ArraySource:
    """The subjects of several sources, one source after the other, in memory.

    Raises:
        ValueError: no source, or sources of other classes, channels or voxel sizes.
    """
    if not sources:
        raise ValueError("no sources to join")
    first = sources[0].info
    for source in sources:
        if dataclasses.replace(source.info, case_names=first.case_names) != first:
            raise ValueError(f"sources differ in classes, channels or spacing: {source.info}")
    names = tuple(name for source in sources for name in source.info.case_names)
    records = [unmapped(source[i]) for source in sources for i in range(len(source))]
    return ArraySource(records, dataclasses.replace(first, case_names=names))


@dataclasses.dataclass(frozen=True)
class Standardized(Wrapped):
    """Another source whose images have mean 0 and standard deviation 1, channel by channel."""

    def __getitem__(self, index: int) -> Record:
        record = self.source[index]
        image = np.asarray(record["image"], np.float32)
        axes = tuple(range(image.ndim - 1))
        deviation = np.maximum(image.std(axes, keepdims=True), 1e-6)
        return {**record, "image": (image - image.mean(axes, keepdims=True)) / deviation}
