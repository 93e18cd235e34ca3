"""Folders of scans as sources: found, checked all at once, preprocessed once, read lazily.

`FolderSource(folder, Preprocessing())` is all that training on one's own data takes. Before the
first batch every file is read and every broken one is named, in one error; after that a subject is
preprocessed when it is first asked for and kept in memory, or as memory-mapped `.npy` files that
all processes of a machine share.
"""

import copy
import dataclasses
import os
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from jaxmedgen.data.cache import RecordCache, content_key
from jaxmedgen.data.checks import (
    BrokenCaseError,
    ReadCase,
    check_files,
    read_case,
)
from jaxmedgen.data.label_map import class_table, remap
from jaxmedgen.data.label_presence import refuse_unlabelled
from jaxmedgen.data.layouts import Case, Layout, Problem, discover
from jaxmedgen.data.preprocess import Preprocessing
from jaxmedgen.data.regrid import GridMap
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.data.untrusted import DataError

__all__ = [
    "BrokenCaseError",
    "Case",
    "FolderSource",
    "Layout",
    "Problem",
    "ReadCase",
    "check_folder",
    "discover",
    "load_case",
    "read_case",
]


def check_folder(
    folder: str | os.PathLike,
    *,
    label_map: Mapping[int, int] | None = None,
    split: str = "train",
    contents: str = "auto",
    require_labels: bool = True,
    need_labels: bool = False,
    allow_empty_labels: bool = False,
) -> list[Problem]:
    """Reads every file of a folder and lists all that is wrong, each with its file.

    Args: as for `FolderSource`.

    Returns:
        Problems; empty when the folder can be used.

    Raises:
        DataError: nothing there to check; with `need_labels`, not one label map.
    """
    layout = discover(folder, split=split, contents=contents, require_labels=require_labels)
    if need_labels:
        refuse_unlabelled(layout)
    return check_files(layout, label_map=label_map, allow_empty_labels=allow_empty_labels)[0]


def load_case(
    case: Case, preprocessing: Preprocessing, label_map: Mapping[int, int] | None = None
) -> tuple[dict[str, np.ndarray], GridMap, ReadCase]:
    """Reads and preprocesses one subject, for prediction or training.

    Args:
        case: the subject's files.
        preprocessing: fitted settings.
        label_map: file value -> class.

    Returns:
        The record, the map for `preprocess.invert_*`, and the subject as read (its `reference` is
        what `nifti.write_like` wants).

    Raises:
        DataError: a file cannot be used.
    """
    read = read_case(case)
    label = read.label
    if label is not None and label_map is not None:
        label = remap(label, label_map)
    try:
        record, grid = preprocessing.apply(read.spacing, read.image, label)
    except ValueError as error:
        raise DataError(f"{read.reference.path}: {error}") from error
    return record, grid, read


class FolderSource:
    """The subjects of a folder as a `Source`, preprocessed on first use.

    Attributes:
        layout: the files.
        preprocessing: the settings, fitted to the cases, or to some (`fitted_to`).
        label_map: file value -> class.
        label_values: class -> file value, for writing predictions with the folder's own numbers
            (the lowest one where several values are one class).
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        preprocessing: Preprocessing | None = None,
        label_map: Mapping[int, int] | None = None,
        class_names: Sequence[str] | None = None,
        *,
        cache_folder: str | os.PathLike | None = None,
        split: str = "train",
        contents: str = "auto",
        require_labels: bool = True,
        need_labels: bool = False,
        allow_empty_labels: bool | None = False,
        num_threads: int = 4,
    ):
        """Finds and checks all files.

        Args:
            folder: in a layout that `discover` knows.
            preprocessing: settings; what they leave open is fitted to these cases (`fitted_to`
                takes some of them). A test set must be given the training set's fitted settings.
            label_map: file value -> class, see `label_map.read_label_map`; by default
                `dataset.json`'s labels, or else the values that occur, numbered in order.
            class_names: one a class, the background first.
            cache_folder: keeps preprocessed subjects as `.npy` files, memory mapped; in memory
                without it.
            split: "train" or "test".
            contents: what files right in the folder are: "images", "labels", "auto".
            require_labels: False takes unlabelled images, as records without `label`; True as long
                as none has a label.
            need_labels: refuses a folder of images without one label map.
            allow_empty_labels: takes label maps without foreground; see `check_files`.
            num_threads: files checked at once.

        Raises:
            DataError: the folder has no cases, or files that cannot be used, all of them listed.
        """
        self.layout = discover(
            folder, split=split, contents=contents, require_labels=require_labels
        )
        if need_labels:
            refuse_unlabelled(self.layout)
        if label_map is None and self.layout.has_regions:
            raise DataError(
                f"{folder}: dataset.json's labels are regions or hold an ignore label, which are "
                "not classes; give a label map of the plain values"
            )
        preprocessing = preprocessing or Preprocessing()
        self._cache = RecordCache(cache_folder)
        problems, facts = check_files(
            self.layout,
            label_map=label_map,
            allow_empty_labels=allow_empty_labels,
            intensities=preprocessing.needs_ct_statistics(),
            cache=self._cache,
            num_threads=num_threads,
        )
        if problems:
            raise DataError(_listed(self.layout, problems))
        ordered = [facts[case.name] for case in self.layout.cases]
        self.label_map, names = class_table(
            {v for f in ordered for v in f.label_values or ()},
            label_names=self.layout.label_names,
            label_map=label_map,
            class_names=class_names,
        )
        self.label_values = tuple(
            min((v for v, c in self.label_map.items() if c == number), default=0)
            for number in range(len(names))
        )
        self._spacings = [f.spacing for f in ordered]
        self._samples = [
            [np.asarray(column, np.float32) for column in f.intensities] for f in ordered
        ]
        cropped = preprocessing.crop_to_nonzero
        self._shapes = [f.content_shape if cropped else f.shape for f in ordered]
        channels = self.layout.channel_names
        if len(channels) != ordered[0].channels:
            channels = tuple(f"channel {c}" for c in range(ordered[0].channels))
        cases = tuple(case.name for case in self.layout.cases)
        self._info = DatasetInfo(names, channels, (), cases)
        self._settings, self._cache_folder = preprocessing, cache_folder
        self._prepare(range(len(ordered)))

    def _prepare(self, chosen: Sequence[int]) -> None:
        """Fits the settings to the cases `chosen`, and all that follows from them."""
        spacings = [self._spacings[i] for i in chosen]
        samples = None
        if self._settings.needs_ct_statistics():
            samples = [np.concatenate(c) for c in zip(*[self._samples[i] for i in chosen])]
        shapes = [self._shapes[i] for i in chosen]
        self.preprocessing = self._settings.fit(spacings, samples, shapes)
        spacing = self.preprocessing.spacing
        if isinstance(spacing, str):  # "native": cases may differ, the middle stands for them
            spacing = Preprocessing().fit(spacings).spacing
        self._info = dataclasses.replace(self._info, spacing=spacing)
        settings = [self.preprocessing.to_json(), sorted(self.label_map.items())]
        self._keys = [
            content_key([*c.images, *([] if c.label is None else [c.label])], "record", *settings)
            for c in self.layout.cases
        ]

    def fitted_to(self, chosen: Sequence[int]) -> "FolderSource":
        """All these cases, with settings fitted to some of them: held-out ones must not shape them.

        Args:
            chosen: numbers of the cases that train.

        Raises:
            ValueError: none of them, where there is something to fit.
        """
        source = copy.copy(self)
        source._prepare(chosen)
        if source._keys != self._keys:
            source._cache = RecordCache(self._cache_folder)  # of other arrays; these may be freed
        return source

    def cropped(self, chosen: Sequence[int]) -> tuple[str, ...]:
        """Names of those cases that are too large for the shape, with a spacing fitted to others.

        With another spacing than "fit" it is known that shapes crop: nobody is named.
        """
        if self._settings.spacing != "fit":
            return ()
        room = np.asarray(self.preprocessing.shape) * self.preprocessing.spacing
        extents = np.asarray(self._shapes, float) * np.asarray(self._spacings, float)
        names = dict.fromkeys(
            self._info.case_names[i] for i in chosen if (extents[i] > room + 1e-6).any()
        )
        return tuple(names)

    @property
    def info(self) -> DatasetInfo:
        """Class, channel and case names; spacing of the preprocessed grid."""
        return self._info

    def __len__(self) -> int:
        return len(self.layout.cases)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """``image`` and ``label`` as far as there are files; ``spacing`` where it is native."""
        name = self.layout.cases[index].name
        record = self._cache.arrays(name, self._keys[index], lambda: self.load(index)[0])
        if self.preprocessing.spacing == "native":
            record["spacing"] = np.asarray(self._spacings[index], np.float32)
        return record

    def affine_of(self, index: int) -> Float[np.ndarray, "4 4"]:
        """From voxels of a preprocessed subject to mm (RAS+) in its files' space.

        Columns are the array's axes in order; of a single slice the slice axis comes last.
        """
        read = read_case(self.layout.cases[index])
        label = None if read.label is None else remap(read.label, self.label_map)
        grid = self.preprocessing.grid_of(read.spacing, read.image, label)
        volume = read.reference
        axes = [axis for axis in range(3) if axis != volume.slice_axis]
        affine = grid.new_affine(volume.affine, axes)
        if volume.slice_axis is None:
            return affine
        return affine[:, [*axes, volume.slice_axis, 3]]

    def load(self, index: int) -> tuple[dict[str, np.ndarray], GridMap, ReadCase]:
        """A subject read afresh, with what is needed to write predictions back: `load_case`."""
        return load_case(self.layout.cases[index], self.preprocessing, self.label_map)


def _listed(layout: Layout, problems: Sequence[Problem]) -> str:
    lines = [f"{layout.folder}: {len(problems)} problems; correct or remove these files:"]
    return "\n  ".join(lines + [str(problem) for problem in problems])
