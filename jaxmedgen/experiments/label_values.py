"""The numbers of classes in files: those that a run was trained on, and those of another folder.

Inside the package classes are 0, 1, 2, ...; files number them as their makers did (BraTS has 1, 2
and 4). What a run writes has the numbers of its training files. Labels of another folder are read
by the names of classes where both folders have names, else by the run's numbers: numbered afresh,
one class would be scored as another.
"""

import concurrent.futures
import os
import pathlib
from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import Int

from jaxmedgen import configuration
from jaxmedgen.data.build import folder_source
from jaxmedgen.data.folders import FolderSource
from jaxmedgen.data.layouts import Layout, discover
from jaxmedgen.data.nifti import read_volume
from jaxmedgen.data.preprocess import Preprocessing
from jaxmedgen.data.untrusted import DataError
from jaxmedgen.experiments.runs import TrainedRun

_NO_VALUE = 2**31
"""From here on no label map has values: they are int32."""

_SHOWN = 8
"""Values and classes that an error names."""


def file_values(run: TrainedRun) -> Int[np.ndarray, " k"]:
    """The number that each predicted class has in files: that of the run's training files.

    The lowest one where several values are one class. Class numbers where the run had no files, or
    merged their classes into coarser ones for prediction (``data.target_of``, hemispheres).
    """
    classes = np.arange(run.info.num_classes)
    if run.label_map is None or run.origin is not None or run.config.data.target_of:
        return classes
    lowest = {k: min((v for v, c in run.label_map.items() if c == k), default=k) for k in classes}
    if run.label_map.get(0, 0) == 0:
        lowest[0] = 0  # also where the map lists other values of the background alone
    return np.asarray([lowest[k] for k in classes])


def known_values(run: TrainedRun) -> Collection[int] | None:
    """Values of label files that are classes of the run; None where any other is background.

    That is so with a ``data.label_map``, which need not list all structures of an atlas.
    """
    table = None if run.config.data.get("label_map") else _trained_map(run)
    return None if table is None else table.keys()


def refuse_unknown(
    values: Collection[int] | Int[np.ndarray, "..."],
    known: Collection[int] | None,
    path: str | os.PathLike,
    names: Mapping[int, str] | None = None,
    remedy: str = "correct the file, or number its labels as the training files do",
) -> None:
    """Refuses a label map with values that are no class: `remap` would make them background.

    Args:
        values: of the file.
        known: those that are classes; None takes all.
        path: of the file.
        names: of values, where the folder says.
        remedy: what to do.

    Raises:
        DataError: there are others; the line names them.
    """
    if known is None:
        return
    unknown = [int(v) for v in np.unique(np.asarray(values, int)) if int(v) not in known]
    if unknown:
        names = names or {}
        told = [f"{v} ({names[v]})" if v in names else str(v) for v in unknown]
        raise DataError(
            f"{path}: label values that are no class of the run: {_listed(told)} (it has "
            f"{_listed(sorted(v for v in known if v < _NO_VALUE))}); {remedy}"
        )


def labelled_folder(run: TrainedRun, folder: str, prepared: Preprocessing) -> FolderSource:
    """Another labelled folder with the classes of the labels that the run was trained on.

    Not merged: the caller does so with ``data.target_of``.

    Args:
        run: trained.
        folder: in any layout that training reads; it may lack some of the classes.
        prepared: settings that bring its scans to where the training scans are.

    Raises:
        DataError: broken files, all listed; labels that are no classes of the run.
    """
    table = _map_of(run, folder)
    if table is None:  # training had no labels, or these are regions
        config = configuration.from_json(configuration.to_json(run.config))
        with config.unlocked():
            config.data.kind, config.data.folder = "folder", folder
        return folder_source(config.data, prepared)
    merged = run.origin is not None or bool(run.config.data.target_of)
    names = None if merged else run.info.class_names
    cache = run.config.data.get("cache") or None
    return FolderSource(
        *(folder, prepared, table, names),
        cache_folder=cache,
        allow_empty_labels=True,  # healthy subjects: what is marked in them counts
        need_labels=True,
    )


def _trained_map(run: TrainedRun) -> Mapping[int, int] | None:
    """File value -> class of the training labels; None where training had none, or no files."""
    table = run.label_map if run.origin is None else run.origin.label_map
    if table is None and run.origin is None and not run.config.data.get("label_map"):
        count = len(run.config.data.target_of) or run.info.num_classes
        table = {k: k for k in range(count)}
    return table if table and max(table.values()) > 0 else None


def _map_of(run: TrainedRun, folder: str) -> dict[int, int] | None:
    """Value in another folder -> class of the training labels; None where nothing tells.

    Raises:
        DataError: labels that are no classes of the run.
    """
    table, layout = _trained_map(run), discover(folder)
    if table is None:
        return None
    if run.config.data.get("label_map"):  # of the user: it goes before any description
        return dict(table)
    if layout.has_regions:
        return None
    found = _values_in(layout)
    names = _class_names(run, table)
    remedy = "number the labels as the training files do"
    if layout.label_names and names:
        table = _by_name(layout.label_names, names)
        remedy = "give classes the names in dataset.json that the run has: " + _listed(names[1:])
    elif run.label_map is None and run.origin is None and len(table) == 2:
        # No files to number them by, and one structure only: masks are 1, or 255.
        foreground = {v for values in found.values() for v in values} - {0}
        table = {0: 0, foreground.pop(): 1} if len(foreground) == 1 else table
    for path, values in found.items():
        refuse_unknown(values, table.keys(), path, layout.label_names, remedy)
    absent = sorted(set(range(_count(run))) - set(table.values()))
    return dict(table) | {_NO_VALUE + k: k for k in absent}


def _by_name(label_names: Mapping[int, str], names: tuple[str, ...]) -> dict[int, int]:
    """Value -> class of the same name, in capitals or not; values of other names are left out."""
    numbers = {name.strip().casefold(): k for k, name in enumerate(names)}
    numbers |= {name: k for k, name in enumerate(names)}
    found = {v: numbers.get(n, numbers.get(n.strip().casefold())) for v, n in label_names.items()}
    return {v: k for v, k in found.items() if k is not None} | {0: 0}


def _class_names(run: TrainedRun, table: Mapping[int, int]) -> tuple[str, ...] | None:
    """Names of the training labels' classes; None where these have numbers only.

    The run keeps names of what it predicts. Where those are merged classes, the finer ones' names
    are in the training folder, if it is still there.
    """
    if run.origin is None and not run.config.data.target_of:
        numbered = ("background", *(f"label {v}" for v in sorted(table)[1:]))
        return None if run.info.class_names == numbered else run.info.class_names
    folder = run.config.data.get("folder")
    try:
        known = discover(folder).label_names if folder else None
    except DataError:
        return None
    if known is None or sorted(known) != sorted(table):
        return None
    return tuple(known[value] for value in sorted(table, key=lambda v: table[v]))


def _count(run: TrainedRun) -> int:
    return max(_trained_map(run).values()) + 1


def _values_in(layout: Layout) -> dict[pathlib.Path, tuple[int, ...]]:
    """Values of the label files that can be read; `FolderSource` lists the others."""

    def read(path: pathlib.Path) -> tuple[int, ...]:
        try:
            return tuple(int(v) for v in np.unique(read_volume(path, label=True).array))
        except DataError:
            return ()

    paths = [case.label for case in layout.cases if case.label is not None]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return dict(zip(paths, pool.map(read, paths)))


def _listed(things: Collection[object]) -> str:
    shown = [str(thing) for thing in things][:_SHOWN]
    return ", ".join(shown) + (", ..." if len(things) > _SHOWN else "")
