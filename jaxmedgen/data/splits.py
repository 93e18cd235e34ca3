"""Splits by patient: deterministic, nested, and refused when a patient is on both sides.

Patients are ranked by a hash of (seed, patient). The rank does not depend on the order of the
files, and when a case is added to the data all others keep their order; smaller training sets are
prefixes, and so subsets, of larger ones (needed to study how few labels suffice).
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from jaxmedgen.data.patients import patient_of, unclear_patients
from jaxmedgen.data.untrusted import DataError

__all__ = [
    "Split",
    "check_split",
    "first_patients",
    "k_fold",
    "patient_of",
    "ranked",
    "read_nnunet_splits",
    "train_test_split",
    "unclear_patients",
]


class Split(NamedTuple):
    """Case names of the two sides, each in rank order."""

    train: tuple[str, ...]
    test: tuple[str, ...]


def ranked(
    case_names: Iterable[str], seed: int, patient: Callable[[str], str] = patient_of
) -> list[list[str]]:
    """Patients in a seeded order, each as the sorted list of its cases."""
    groups: dict[str, list[str]] = {}
    for name in case_names:
        groups.setdefault(patient(name), []).append(name)

    def rank(item: tuple[str, list[str]]) -> bytes:
        return hashlib.sha256(f"{seed}/{item[0]}".encode()).digest()

    return [sorted(names) for _, names in sorted(groups.items(), key=rank)]


def train_test_split(
    case_names: Sequence[str],
    *,
    test_fraction: float | None = None,
    test_count: int | None = None,
    seed: int = 0,
    patient: Callable[[str], str] = patient_of,
) -> Split:
    """Holds out some patients.

    Args:
        case_names: all cases, each once.
        test_fraction: share of the patients held out; at least one.
        test_count: or their number.
        seed: decides who.
        patient: case name -> patient; all cases of a patient go to one side.

    Raises:
        ValueError: both or none of fraction and count, or nobody left on one side.
        DataError: a case name occurs twice.
    """
    if (test_fraction is None) == (test_count is None):
        raise ValueError("give either test_fraction or test_count")
    _refuse_repeats(case_names)
    groups = ranked(case_names, seed, patient)
    if test_count is None:
        test_count = max(1, round(test_fraction * len(groups)))
    if not 0 < test_count < len(groups):
        raise ValueError(
            f"holding out {test_count} of {len(groups)} patients leaves one side empty: "
            "hold out fewer or add cases"
        )
    return check_split(Split(_flat(groups[test_count:]), _flat(groups[:test_count])), patient)


def k_fold(
    case_names: Sequence[str],
    folds: int = 5,
    *,
    seed: int = 0,
    patient: Callable[[str], str] = patient_of,
) -> list[Split]:
    """Cross-validation: every patient is tested in exactly one fold.

    Raises:
        ValueError: fewer than two folds, or fewer patients than folds.
        DataError: a case name occurs twice.
    """
    _refuse_repeats(case_names)
    groups = ranked(case_names, seed, patient)
    if not 2 <= folds <= len(groups):
        raise ValueError(
            f"{folds} folds do not fit {len(groups)} patients: take 2 to {len(groups)}"
        )
    return [
        check_split(
            Split(
                _flat([g for i, g in enumerate(groups) if i % folds != fold]),
                _flat(groups[fold::folds]),
            ),
            patient,
        )
        for fold in range(folds)
    ]


def first_patients(
    case_names: Sequence[str],
    count: int,
    *,
    seed: int = 0,
    patient: Callable[[str], str] = patient_of,
) -> tuple[str, ...]:
    """The cases of `count` patients; a smaller count gives a subset of a larger one's.

    Raises:
        ValueError: more patients asked for than there are, or none.
    """
    groups = ranked(case_names, seed, patient)
    if not 0 < count <= len(groups):
        raise ValueError(
            f"{count} patients asked for, {len(groups)} there: take 1 to {len(groups)}"
        )
    return _flat(groups[:count])


def check_split(split: Split, patient: Callable[[str], str] = patient_of) -> Split:
    """Passes a split on, unless a patient is on both sides.

    Raises:
        DataError: leakage, with the names.
    """
    shared = sorted({patient(n) for n in split.train} & {patient(n) for n in split.test})
    if shared:
        raise DataError(
            f"{len(shared)} patients are in training and test ({', '.join(shared[:5])}): "
            "put all scans of a patient on one side"
        )
    return split


def read_nnunet_splits(
    path: str | os.PathLike,
    case_names: Sequence[str] | None = None,
    patient: Callable[[str], str] = patient_of,
) -> list[Split]:
    """The folds of nnU-Net's `splits_final.json`.

    Args:
        path: the file, or a folder that holds it.
        case_names: the cases there are; a fold naming others is refused.
        patient: case name -> patient, for the leakage check.

    Raises:
        DataError: missing or malformed file, unknown cases, leakage.
    """
    path = pathlib.Path(path)
    path = path / "splits_final.json" if path.is_dir() else path
    try:
        folds = json.loads(path.read_text())
        splits = [Split(tuple(map(str, f["train"])), tuple(map(str, f["val"]))) for f in folds]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; check the path") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f'{path}: not an nnU-Net split; give [{{"train": [...], "val": [...]}}, ...]'
        ) from error
    for number, split in enumerate(splits):
        unknown = sorted(
            {*split.train, *split.test} - set(case_names or (*split.train, *split.test))
        )
        if unknown:
            raise DataError(
                f"{path}: fold {number} names missing cases {unknown[:5]}; add or drop them"
            )
        check_split(split, patient)
    return splits


def _flat(groups: Sequence[Sequence[str]]) -> tuple[str, ...]:
    return tuple(name for group in groups for name in group)


def _refuse_repeats(case_names: Sequence[str]) -> None:
    repeated = sorted({n for n in case_names if case_names.count(n) > 1})
    if repeated:
        raise DataError(f"case names occur twice: {', '.join(repeated[:5])}; rename them")
