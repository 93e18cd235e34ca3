"""Scans that a user brings, in a folder or as TFDS: split by patient, then preprocessed.

What preprocessing leaves open (spacing, CT statistics) is fitted to the patients that train, after
the split: held-out patients must not shape what they are tested with.
"""

import logging
import pathlib
from collections.abc import Sequence
from typing import Any

from jaxmedgen.data.folders import FolderSource, discover
from jaxmedgen.data.label_map import read_label_map
from jaxmedgen.data.prepared import Prepared, fitted
from jaxmedgen.data.preprocess import Preprocessing
from jaxmedgen.data.shape_parts import has_classes
from jaxmedgen.data.sources import Source, in_memory, subset
from jaxmedgen.data.splits import (
    Split,
    check_split,
    first_patients,
    patient_of,
    read_nnunet_splits,
    train_test_split,
)
from jaxmedgen.data.target_spacing import target_spacing

Parts = tuple[Source, Source, Source]
"""Training, validation and test subjects."""


def folder_source(
    data: Any,
    prepared: Preprocessing | None = None,
    *,
    any_labels: bool = False,
    need_labels: bool | None = None,
) -> FolderSource:
    """The folder ``data.folder``, preprocessed as ``data`` (or `prepared`) says; checks every file.

    What ``data`` leaves open is fitted to all cases; `folder_parts` fits it to those that train.

    Args:
        data: a configuration's ``data`` group. ``empty_labels`` keeps subjects without foreground.
        prepared: fitted settings, taken instead of those of ``data``.
        any_labels: label maps may be missing or empty.
        need_labels: refuses images without one label map; by default where ``images_only`` is
            False. Configurations of models that need no label, and older ones, do not have it.

    Raises:
        ValueError: no folder is named.
        DataError: broken or missing files, all listed.
    """
    if not data.folder:
        raise ValueError(f"data.kind='{data.kind}' needs a folder: --config.data.folder=PATH")
    label_map, names = read_label_map(data.label_map) if data.label_map else (None, ())
    return FolderSource(
        data.folder,
        prepared or preprocessing(data),
        label_map,
        names or None,
        cache_folder=data.cache or None,
        require_labels=not any_labels,
        need_labels=not data.get("images_only", True) if need_labels is None else need_labels,
        allow_empty_labels=any_labels or _empty_labels(data),
    )


def _empty_labels(data: Any) -> bool | None:
    """``data.empty_labels``; None where a configuration has no such setting."""
    return data.get("empty_labels")


def preprocessing(data: Any) -> Preprocessing:
    """How ``config.data`` prepares scans.

    Raises:
        ValueError: settings that are none, see `target_spacing` and `Preprocessing`.
    """
    return Preprocessing(
        spacing=target_spacing(data.spacing),
        shape=None if data.get("stacks") else tuple(data.shape) or None,
        crop_to_nonzero=data.crop_to_nonzero,
        normalization=data.normalization,
    )


def folder_parts(source: FolderSource, data: Any) -> Parts:
    """The subjects of a folder in three parts, see `case_parts`; each is a `Subset`.

    With a ``data.split_file`` the folder's ``imagesTs`` are the test subjects as far as
    ``labelsTs`` has labels of them.

    Raises:
        ValueError, DataError: as `case_parts`; broken files in ``imagesTs``.
    """
    tests = _own_tests(data) if data.get("split_file") else ()
    parts = case_parts(source.info.case_names, data, tested=bool(tests))
    source = source.fitted_to(parts[0])
    train, validation, test = (subset(source, part) for part in parts)
    large = source.cropped((*parts[1], *parts[2]))
    if large:
        logging.getLogger(__name__).warning(
            "%d held-out cases are larger than all training cases and are cropped to data.shape "
            "(%s); set data.spacing in mm, or a larger data.shape, to keep them whole",
            *(len(large), ", ".join(large[:5])),
        )
    if tests:
        held = _test_source(source, data)
        test = subset(held, tests)
        check_split(Split(train.info.case_names + validation.info.case_names, test.info.case_names))
    return train, validation, test


def tfds_parts(data: Any, prepared: Preprocessing | None = None) -> Parts:
    """The subjects of a TFDS data set in three parts, preprocessed once and kept in memory.

    Args:
        data: a configuration's ``data`` group.
        prepared: fitted settings, taken instead of those of ``data``.

    Raises:
        ValueError: as `case_parts`; a ``data.shape`` of another number of axes.
        DataError: no data set, or a subject that cannot be preprocessed.
    """
    from jaxmedgen.data.tfds_source import TfdsSource

    source = TfdsSource(data.folder)
    parts = case_parts(source.info.case_names, data)
    settings = fitted(source, prepared or preprocessing(data), parts[0])
    subjects = in_memory(Prepared(source, settings))
    return tuple(subset(subjects, part) for part in parts)


def case_parts(
    names: Sequence[str], data: Any, *, tested: bool = False
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Numbers of training, validation and test cases, patients kept together.

    ``data.test`` and ``data.validation`` patients are held out; of the others the first
    ``data.train`` in a seeded order train (0 takes all). With a ``data.split_file`` both sides of
    ``data.fold`` train (``data.train`` of them) and validate; test cases are those of patients that
    the fold does not name, or else the validation cases, which is logged.

    Args:
        names: all cases.
        data: a configuration's ``data`` group.
        tested: whether there are test cases besides; then none are taken of these.

    Raises:
        ValueError: more patients asked for than there are; no such fold, or an empty one.
        DataError: the split file cannot be used.
    """
    if data.get("split_file", ""):
        train, validation, test = _fold_of(names, data, tested)
    else:
        rest, test = _hold_out(names, data.test, data.seed)
        train, validation = _hold_out(rest, data.validation, data.seed + 1)
    if data.train:
        train = first_patients(train, data.train, seed=data.seed + 2)
    number = {name: i for i, name in enumerate(names)}
    return tuple(tuple(number[name] for name in part) for part in (train, validation, test))


def check_split_file(data: Any) -> None:
    """Refuses a ``data.split_file`` where it would not be read.

    Raises:
        ValueError: another kind of data.
    """
    if not data.get("split_file", ""):
        return
    folder = data.kind in ("folder", "hemispheres") and data.folder and not has_classes(data.folder)
    if data.get("planes") or not (folder or data.kind == "tfds"):
        raise ValueError(
            f"data.split_file is not read of data.kind='{data.kind}': it splits a folder of scans "
            "with label maps (--data FOLDER); leave it empty"
        )


def _fold_of(names: Sequence[str], data: Any, tested: bool) -> tuple[tuple[str, ...], ...]:
    folds = read_nnunet_splits(data.split_file, names)
    fold = data.get("fold", 0)
    if not 0 <= fold < len(folds):
        raise ValueError(
            f"data.fold={fold}: {data.split_file} has {len(folds)} folds, counted from 0"
        )
    train, validation = (tuple(dict.fromkeys(side)) for side in folds[fold])
    if not train or not validation:
        raise ValueError(
            f"{data.split_file}: fold {fold} has {len(train)} training and {len(validation)} "
            "validation cases; both are needed"
        )
    named = {patient_of(name) for name in (*train, *validation)}
    test = tuple(name for name in names if patient_of(name) not in named)
    if tested:
        return train, validation, ()
    if not test:
        logging.getLogger(__name__).warning(
            "%s: fold %d leaves no case for the test, so its %d validation cases are also the test "
            "set; scores of weights chosen by validation will be too good",
            *(data.split_file, fold, len(validation)),
        )
    return train, validation, test or validation


def _own_tests(data: Any) -> tuple[int, ...]:
    """Numbers of the labelled cases in ``imagesTs``; () without such a folder."""
    folder = pathlib.Path(data.folder)
    places = (folder / "imagesTs", folder / "labelsTs")
    if not all(place.is_dir() and any(place.iterdir()) for place in places):
        return ()
    cases = discover(folder, split="test").cases
    return tuple(i for i, case in enumerate(cases) if case.label is not None)


def _test_source(source: FolderSource, data: Any) -> FolderSource:
    """``imagesTs`` with the classes and the fitted preprocessing of the training cases."""
    own = not data.label_map and source.layout.label_names is not None
    return FolderSource(
        data.folder,
        source.preprocessing,
        None if own else source.label_map,
        None if own else source.info.class_names,
        cache_folder=data.cache or None,
        split="test",
        allow_empty_labels=_empty_labels(data),
    )


def _hold_out(
    names: Sequence[str], count: int, seed: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if count == 0:
        return tuple(names), ()
    split = train_test_split(names, test_count=count, seed=seed)
    return tuple(split.train), tuple(split.test)
