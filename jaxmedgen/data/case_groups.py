"""Groups of cases (vendor, disease, phase): of a pattern of their names, or of a table.

A table is a CSV file with lines ``case,group`` (a header is allowed) or a JSON file of one object,
``{"case": "group"}``.
"""

import csv
import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxmedgen.data.phantoms.vendors import VENDORS
from jaxmedgen.data.sources import Record, Source, Wrapped

TABLES = (".csv", ".json")


def groups_of(names: Sequence[str], groups: str) -> tuple[str, ...]:
    """The group of every case.

    Args:
        names: of cases.
        groups: a table's path (`TABLES`), or a regular expression whose first group matches the
            part of the name: ``^([^-]+)-`` for the vendor of ``A-NOR-00012``.

    Raises:
        ValueError: a table that cannot be read, a pattern without a group, or names that have
            none, the first of them listed.
    """
    if pathlib.Path(groups).suffix.lower() in TABLES:
        table = read_table(groups)
        missing = [name for name in names if name not in table]
        if missing:
            raise ValueError(f"{groups} has no line for {', '.join(missing[:5])}: add one a case")
        return tuple(table[name] for name in names)
    try:
        expression = re.compile(groups)
    except re.error as error:
        raise ValueError(f"pattern {groups!r} is no regular expression: {error}") from error
    if expression.groups < 1:
        raise ValueError(f"pattern {groups!r} has no group: put the group's part in parentheses")
    found = [expression.search(name) for name in names]
    missing = [name for name, match in zip(names, found) if match is None]
    if missing:
        raise ValueError(f"pattern {groups!r} does not match the case names {missing[:3]}")
    return tuple(match.group(1) for match in found)


def read_table(path: str | pathlib.Path) -> dict[str, str]:
    """Case -> group of a CSV or JSON file.

    Raises:
        ValueError: the file cannot be read, or is no such table.
    """
    path = pathlib.Path(path)
    try:
        text = path.read_text()
    except OSError as error:
        raise ValueError(f"groups '{path}' cannot be read: {error.strerror}") from error
    if path.suffix.lower() == ".json":
        try:
            table: Any = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is no JSON: {error}") from error
        if not isinstance(table, Mapping):
            raise ValueError(f'{path} must hold one object, {{"case": "group"}}')
        return {str(case): str(group) for case, group in table.items()}
    lines = csv.reader(text.splitlines())
    return {line[0].strip(): line[1].strip() for line in lines if len(line) > 1}


def vendor_names(vendors: Sequence[str]) -> tuple[str, ...]:
    """The vendors that a record's number counts: the phantoms' four, or the given others."""
    return VENDORS if set(vendors) <= set(VENDORS) else tuple(vendors)


@dataclasses.dataclass(frozen=True)
class OfVendors(Wrapped):
    """Another source whose records have a ``vendor``, its number in `vendor_names`.

    Attributes:
        numbers: one a subject.
    """

    numbers: tuple[int, ...]

    def __getitem__(self, index: int) -> Record:
        return {**self.source[index], "vendor": np.int32(self.numbers[index])}


def with_vendors(source: Source, groups: str, vendors: Sequence[str]) -> OfVendors:
    """A source with the vendors of its cases.

    Args:
        source: the subjects.
        groups: as `groups_of` takes them (``data.vendor_of``).
        vendors: names that may occur (``data.vendors``).

    Raises:
        ValueError: a case of another vendor, or of none.
    """
    names = vendor_names(vendors)
    found = groups_of(source.info.case_names, groups)
    unknown = sorted(set(found) - set(vendors))
    if unknown:
        raise ValueError(
            f"data.vendor_of gives the vendors {', '.join(unknown)}, data.vendors are "
            f"{', '.join(vendors)}: name all of them there"
        )
    return OfVendors(source, tuple(names.index(vendor) for vendor in found))
