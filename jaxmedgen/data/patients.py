"""Whose scan a case is, as far as its name tells, and where names leave it open."""

import re
from collections.abc import Callable, Iterable

_MOST_SCANS = 8
"""So many scans of one patient are usual; a site has more patients."""

_PART = r"([_-]((frame|slice|ses|session|run|z)[-_]?[0-9]+|E[DS]|left|right))+$"
"""What ends the name of a part of a patient: `_ED`, `_frame12`, `_ses-2`, `_z03_left`."""

_VISIT = (
    r"([_-]((visit|scan|time|timepoint|tp|day|week|month|year|fu|followup|baseline|bl|sc)"
    r"[-_]?[0-9]*|[VM][0-9]+|(19|20)[0-9]{2}-?[0-9]{2}-?[0-9]{2}|[0-9]{1,2}(st|nd|rd|th)))+$"
)
"""What ends the name of a visit: `_bl`, `_m12`, `_visit2`, `_V1`, `_2006-04-18`."""

_CONTRAST = r"_(T1|T1c|T1ce|T1gd|T1w|T2|T2w|FLAIR|PD|DWI|ADC|SWI|CT|PET)"
"""A part of a name that says how a patient was scanned, after `_`."""

_SCHEMES = (
    r"sub-[0-9A-Za-z]+(?=[_-]|$)",  # BIDS
    r"[0-9]{3}_S_[0-9]{4}(?=[_-]|$)",  # ADNI: 002_S_0295_...
    r"OAS[12]_[0-9]{4}(?=[_-]|$)|OAS[34][0-9]{4}(?=[_-]|$)",  # OASIS: OAS2_0001_MR1, OAS30001_MR_d1
    r"BraTS-[A-Za-z]+-[0-9]{5}(?=-[0-9]{3}$)",  # BraTS 2023: BraTS-GLI-00005-100
    r"[0-9]{7}(?=_[0-9]{5}_[0-9]+_[0-9]+$)",  # UK Biobank: 1000000_20252_2_0
)


def patient_of(case_name: str) -> str:
    """The patient of a case: the BIDS subject (`sub-01_ses-2_T1w` -> `sub-01`), else the name.

    ADNI's, OASIS', BraTS' and UK Biobank's names of patients are known, too. Of other names endings
    of a phase, frame, session, run, slice or side are left out, and those of a visit or date where
    a number is left: `patient001_frame12_z03` and `patient001_ED` are of `patient001`, `001_bl` of
    `001`.
    """
    for scheme in _SCHEMES:
        match = re.match(scheme, case_name)
        if match:
            return match.group()
    name, before = case_name, ""
    while name != before:  # 001_bl_left, 001_left_bl
        before, name = name, _without_part(name)
        rest = re.sub(_VISIT, "", name, flags=re.IGNORECASE)
        if re.search("[0-9]", rest):  # of scan_1 and scan_2 nothing would be left to tell them
            name = rest
    return name


def _without_part(name: str) -> str:
    return re.sub(_PART, "", name) or name


def unclear_patients(case_names: Iterable[str], patient: Callable[[str], str] = patient_of) -> str:
    """A note on cases whose patients their names do not tell, or empty.

    Two errors are possible. Names such as `p1_a`, `p1_b`, `p2_a` are alike but for a last part that
    few of them share a beginning with, `bl_001` and `m12_001` but for a visit that comes first: may
    these be scans of one patient? And more visits than usual are taken for one patient's in
    `site1_V001`, `site1_V002`, ...: may these be patients?
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(set(case_names)):
        groups.setdefault(patient(name), []).append(name)
    notes = [_note_on_different(sorted(groups)), _note_on_one(groups)]
    return ". ".join(note for note in notes if note)


def _note_on_different(patients: list[str]) -> str:
    """Patients that may be fewer."""
    by_head: dict[str, list[str]] = {}
    by_rest: dict[str, list[str]] = {}
    for name in patients:
        first = re.match(r"([^_-]+)[_-](.*[0-9].*)$", name)
        if first and re.fullmatch(f"{_VISIT}|{_CONTRAST}", f"_{first[1]}", re.IGNORECASE):
            by_rest.setdefault(first[2], []).append(name)
            continue
        head, separator, _ = re.match(r"(.*?)([_-]?)([^_-]*)$", name).groups()
        if separator and re.search("[0-9]", head):
            by_head.setdefault(head, []).append(name)
    several = [names for names in by_head.values() if len(names) > 1]
    if max(map(len, several), default=0) > _MOST_SCANS:
        several = []  # beginnings are sites
    several += [names for names in by_rest.values() if len(names) > 1]
    if not several:
        return ""
    groups = "group" if len(several) == 1 else "groups"
    return (
        f"{' and '.join(several[0][:2])} count as different patients, and {len(several)} {groups} "
        "of names are alike as these are. Where these are scans of one patient, rename them "
        "sub-ID_...: otherwise one patient may lie on both sides of a split"
    )


def _note_on_one(groups: dict[str, list[str]]) -> str:
    """Patients that may be several: what ends their scans' names looks like many visits."""
    for name, cases in groups.items():
        if any(re.match(scheme, case) for scheme in _SCHEMES for case in cases):
            continue
        # A visit may have many slices or frames.
        visits = {_without_part(case) for case in cases}
        if len(visits) > _MOST_SCANS:
            return (
                f"{len(visits)} scans such as {' and '.join(sorted(visits)[:2])} count as those of "
                f"one patient, {name}. Where these are patients, rename them sub-ID_...: otherwise "
                "all of them lie on one side of a split"
            )
    return ""
