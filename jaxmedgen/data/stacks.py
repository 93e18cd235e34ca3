"""Stacks of slices as training data: their slices one by one, or equalised to one number of them.

A stack is a volume with one thick axis. Here it comes first and runs from base to apex: the larger
third of the foreground lies at the start, so that nothing is ever interpolated between hearts that
stand head over heels.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from jaxmedgen.data.case_groups import groups_of
from jaxmedgen.data.image_slices import thick_axis
from jaxmedgen.data.sources import DatasetInfo, Record, Source, Wrapped
from jaxmedgen.ops.slice_interpolation import interpolate_labels


@dataclasses.dataclass(frozen=True)
class Stack:
    """One subject's label map in slices.

    Attributes:
        label: classes ``[n, h, w]``, from base to apex, slices without foreground left out at both
            ends.
        spacing: mm between slices, rows and columns.
        name: of the case.
        group: say its disease; "" where none is known.
        phase: of the heart, say ED or ES; "" where none is known.
    """

    label: Int[np.ndarray, "n h w"]
    spacing: tuple[float, float, float]
    name: str
    group: str = ""
    phase: str = ""


def label_shape(config: Any) -> tuple[int, ...]:
    """Shape of a configuration's label maps: ``data.shape``, or that of equalised stacks."""
    shape = tuple(int(n) for n in config.data.shape)
    return (config.data.stack_slices, *shape) if config.data.stacks == "volumes" else shape


@dataclasses.dataclass(frozen=True)
class Grouped(Wrapped):
    """Another source whose subjects belong to groups.

    Attributes:
        groups: one name a subject.
        phases_of: phase of each, or () where none is known.
    """

    groups: tuple[str, ...]
    phases_of: tuple[str, ...] = ()

    def __getitem__(self, index: int) -> Record:
        return self.source[index]


PHASE = r"(?:^|[-_])(ED|ES)(?:[-_]|$)"
"""Where a case name says its phase: ``patient001-ES``, ``p7_ED_4``."""


def read_groups(source: Source, path: str, phases: str = "") -> Grouped:
    """A source with the groups of a table (`case_groups`), and perhaps the phases of its cases.

    Args:
        source: the subjects.
        path: of a CSV file with lines ``case,group``, or a JSON file.
        phases: table or pattern of the phases; by default `PHASE`, where all names have it.

    Raises:
        ValueError: the file cannot be read, or cases without a group, all listed.
    """
    names = source.info.case_names
    try:
        found = groups_of(names, phases or PHASE)
    except ValueError:
        if phases:
            raise
        found = ()
    return Grouped(source, groups_of(names, path), found)


def stack_samples(source: Source, data: Any) -> Source:
    """`as_samples` of one part of a configuration's data."""
    if data.groups:
        source = read_groups(source, data.groups, data.get("phase_of", ""))
    axis = None if data.stack_axis < 0 else data.stack_axis
    return as_samples(source, data.stacks, tuple(data.shape), data.stack_slices, axis)


def as_samples(
    source: Source, kind: str, shape: Sequence[int], count: int, axis: int | None = None
) -> Source:
    """Volumes as samples of one shape, in memory.

    Args:
        source: 3D label maps.
        kind: ``slices`` or ``volumes`` (equalised stacks).
        shape: rows and columns.
        count: slices of a volume.
        axis: across the slices, see `read_stack`.

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in ("slices", "volumes"):
        raise ValueError(f"data.stacks='{kind}': choose slices or volumes")
    stacks, names = read_stacks(source, shape, axis), source.info.class_names
    return Slices(stacks, names) if kind == "slices" else EqualisedStacks(stacks, names, count)


def base_first(label: Int[np.ndarray, "n h w"]) -> Int[np.ndarray, "n h w"]:
    """The stack with its larger end first; the mean area of a third of the slices decides."""
    area = (label > 0).sum((1, 2))
    third = max(1, len(label) // 3)
    return label[::-1] if area[-third:].mean() > area[:third].mean() else label


def crop_to_content(
    label: Int[np.ndarray, "n h w"], shape: Sequence[int]
) -> Int[np.ndarray, "n h2 w2"]:
    """Slices of `shape` around the middle of the foreground's box, padded with background."""
    found = np.nonzero((label > 0).any(0))
    out = np.zeros((len(label), *shape), label.dtype)
    source, target = [slice(None)], [slice(None)]
    for axis, size in enumerate(shape):
        n = label.shape[axis + 1]
        middle = (int(found[axis].min()) + int(found[axis].max()) + 1) // 2 if found[0].size else 0
        low = middle - size // 2
        first, last = max(low, 0), min(low + size, n)
        source.append(slice(first, last))
        target.append(slice(first - low, last - low))
    out[tuple(target)] = label[tuple(source)]
    return out


def read_stack(
    source: Source, index: int, shape: Sequence[int] = (), axis: int | None = None
) -> Stack:
    """A subject of a source of volumes as a stack.

    Args:
        source: 3D label maps; a record may have a ``spacing`` of its own. Of a source with
            ``groups`` (and ``phases_of``) the stack gets its group (and phase).
        index: of the subject.
        shape: rows and columns to crop to around the foreground; () keeps the slices' size.
        axis: across the slices; by default `image_slices.thick_axis`.

    Raises:
        ValueError: not three axes, or no foreground.
    """
    record, name = source[index], source.info.case_names[index]
    label = np.asarray(record["label"])
    if label.ndim != 3:
        raise ValueError(f"{name} has {label.ndim} axes of space: a stack of slices has three")
    spacing = np.asarray(record.get("spacing", source.info.spacing), float)
    axis = thick_axis(spacing) if axis is None else axis
    label = np.moveaxis(label, axis, 0)
    spacing = (spacing[axis], *np.delete(spacing, axis))
    filled = np.flatnonzero((label > 0).any((1, 2)))
    if not filled.size:
        raise ValueError(f"{name} has no foreground: leave it out")
    label = base_first(label[filled[0] : filled[-1] + 1])
    if len(shape):
        label = crop_to_content(label, shape)
    groups, phases = (getattr(source, part, ()) for part in ("groups", "phases_of"))
    return Stack(
        np.array(label, np.int32, order="C"),  # a copy: a mapped file would stay open
        tuple(float(s) for s in spacing),
        name,
        groups[index] if groups else "",
        phases[index] if phases else "",
    )


def read_stacks(
    source: Source, shape: Sequence[int] = (), axis: int | None = None
) -> tuple[Stack, ...]:
    """All subjects of a source as stacks, see `read_stack`."""
    return tuple(read_stack(source, i, shape, axis) for i in range(len(source)))


@dataclasses.dataclass(frozen=True)
class Slices:
    """The slices with foreground of some stacks, each a sample.

    Attributes:
        stacks: where they come from.
        class_names: of the label values.
    """

    stacks: tuple[Stack, ...]
    class_names: tuple[str, ...]
    _places: tuple[tuple[int, int], ...] = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        places = [
            (i, k)
            for i, stack in enumerate(self.stacks)
            for k in np.flatnonzero((stack.label > 0).any((1, 2)))
        ]
        object.__setattr__(self, "_places", tuple((i, int(k)) for i, k in places))

    @property
    def info(self) -> DatasetInfo:
        """Names of subject and slice; spacing within a slice of the first stack."""
        names = tuple(f"{self.stacks[i].name}-{k:02d}" for i, k in self._places)
        spacing = self.stacks[0].spacing[1:] if self.stacks else (1.0, 1.0)
        return DatasetInfo(self.class_names, (), spacing, names)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Record:
        """``label`` int32 ``[h, w]`` and its ``spacing``, float32 ``[2]``."""
        number, k = self._places[index]
        stack = self.stacks[number]
        return {"label": stack.label[k], "spacing": np.asarray(stack.spacing[1:], np.float32)}


@dataclasses.dataclass(frozen=True)
class EqualisedStacks:
    """Stacks interpolated to one number of slices by their signed distances: volumes for a 3D net.

    Attributes:
        stacks: where they come from.
        class_names: of the label values.
        count: slices of every volume, at equal steps from the first to the last.
    """

    stacks: tuple[Stack, ...]
    class_names: tuple[str, ...]
    count: int = 32
    _made: dict[int, np.ndarray] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def info(self) -> DatasetInfo:
        """Names of the subjects; spacing of the first volume."""
        names = tuple(stack.name for stack in self.stacks)
        spacing = (1.0, 1.0, 1.0)
        if self.stacks:
            spacing = self._spacing_of(self.stacks[0])
        return DatasetInfo(self.class_names, (), spacing, names)

    def __len__(self) -> int:
        return len(self.stacks)

    def __getitem__(self, index: int) -> Record:
        """``label`` int32 ``[count, h, w]``, made once, when it is first asked for.

        ``spacing`` float32 ``[3]`` is its own: hearts of all lengths become `count` slices.
        """
        if index not in self._made:
            label = self.stacks[index].label
            positions = np.linspace(0, len(label) - 1, self.count)
            made = interpolate_labels(label, positions, classes=len(self.class_names))
            self._made[index] = made.astype(np.int32)
        spacing = np.asarray(self._spacing_of(self.stacks[index]), np.float32)
        return {"label": self._made[index], "spacing": spacing}

    def _spacing_of(self, stack: Stack) -> tuple[float, ...]:
        between, *within = stack.spacing
        return (between * (len(stack.label) - 1) / max(self.count - 1, 1), *within)
