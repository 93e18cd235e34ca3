"""Splits by patient: deterministic, nested, and refused when a patient is on both sides.

Patients are ranked by a hash of (seed, patient). The rank does not depend on the order of the
files, and when a case is added to the data all others keep their order; smaller training sets are
prefixes, and so subsets, of larger ones (needed to study how few labels suffice).
"""

import hashlib
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from jaxmedgen.data.untrusted import DataError

_MOST_SCANS = 8
"""So many scans of one patient are usual; a site has more patients."""


class Split(NamedTuple):
    """Case names of the two sides, each in rank order."""

    train: tuple[str, ...]
    test: tuple[str, ...]


_PART = r"([_-]((frame|slice|ses|session|run|z)[-_]?[0-9]+|E[DS]|left|right))+$"
"""What ends the name of a part of a patient: `_ED`, `_frame12`, `_ses-2`, `_z03_left`."""

_VISIT = (
    r"([_-]((visit|scan|time|timepoint|tp|day|week|month|year|fu|followup|baseline|bl|sc)"
    r"[-_]?[0-9]*|[VM][0-9]+|(19|20)[0-9]{2}-?[0-9]{2}-?[0-9]{2}|[0-9]{1,2}(st|nd|rd|th)))+$"
)
"""What ends the name of a visit: `_bl`, `_m12`, `_visit2`, `_V1`, `_2006-04-18`."""

_SCHEMES = (
    r"sub-[0-9A-Za-z]+(?=[_-]|$)",  # BIDS
    r"[0-9]{3}_S_[0-9]{4}(?=[_-]|$)",  # ADNI: 002_S_0295_...
    r"OAS[12]_[0-9]{4}(?=[_-]|$)|OAS[34][0-9]{4}(?=[_-]|$)",  # OASIS: OAS2_0001_MR1, OAS30001_MR_d1
    r"BraTS-[A-Za-z]+-[0-9]{5}(?=-[0-9]{3}$)",  # BraTS 2023: BraTS-GLI-00005-100
)


def patient_of(case_name: str) -> str:
    """The patient of a case: the BIDS subject (`sub-01_ses-2_T1w` -> `sub-01`), else the name.

    ADNI's, OASIS' and BraTS' names of patients are known, too. Of other names endings of a phase,
    frame, session, run, slice or side are left out, and those of a visit or date where a number is
    left: `patient001_frame12_z03` and `patient001_ED` are of `patient001`, `001_bl` of `001`.
    """
    for scheme in _SCHEMES:
        match = re.match(scheme, case_name)
        if match:
            return match.group()
    name, before = case_name, ""
    while name != before:  # 001_bl_left, 001_left_bl
        before, name = name, re.sub(_PART, "", name) or name
        rest = re.sub(_VISIT, "", name, flags=re.IGNORECASE)
        if re.search("[0-9]", rest):  # of scan_1 and scan_2 nothing would be left to tell them
            name = rest
    return name


def unclear_patients(case_names: Iterable[str], patient: Callable[[str], str] = patient_of) -> str:
    """A note on cases that may be of one patient though they count as different ones, or empty.

    Names such as `p1_a`, `p1_b`, `p2_a` are alike but for a last part that few of them share a
    beginning with; whether it tells a patient's scans or patients apart, names do not say.
    """
    found: dict[str, set[str]] = {}
    for name in sorted({patient(name) for name in case_names}):
        head, separator, _ = re.match(r"(.*?)([_-]?)([^_-]*)$", name).groups()
        if separator and re.search("[0-9]", head):
            found.setdefault(head, set()).add(name)
    several = [names for names in found.values() if len(names) > 1]
    if len(found) < 2 or not several or max(map(len, several)) > _MOST_SCANS:
        return ""
    shown = " and ".join(sorted(several[0])[:2])
    return (
        f"{shown} count as different patients, and {len(several)} beginnings of names are shared "
        "like theirs. Where these are scans of one patient, rename them sub-ID_...: otherwise one "
        "patient may lie on both sides of a split"
    )


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
