"""Label maps: from the numbers in files to consecutive classes.

Atlases number structures sparsely and by side (FreeSurfer: 2 and 41 are left and right white
matter); networks want classes 0..K-1. A map is a dict, or a small file:

JSON, structures by name (classes are numbered 1, 2, ... in order)::

    {"white matter": [2, 41], "cortex": [3, 42], "hippocampus": [17, 53]}

JSON, number to class: ``{"2": 1, "41": 1, "3": 2}``; or CSV with the header ``value,class`` or
``value,class,name``. What a map does not list becomes background.

A bare name is one of the files that come with the configurations, ``configs/labels/NAME.csv``.
"""

import csv
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Int

from jaxmedgen.configuration import config_folder
from jaxmedgen.data.untrusted import DataError


def remap(label: Int[np.ndarray, "*s"], label_map: Mapping[int, int]) -> Int[np.ndarray, "*s"]:
    """Labels with every value replaced by its class, int32; unlisted values become 0.

    Whether unlisted values are meant to be background the caller must know: without a map of the
    user they are an error (`experiments.label_values.refuse_unknown`).
    """
    values, compact = np.unique(label, return_inverse=True)
    classes = np.array([label_map.get(int(v), 0) for v in values], np.int32)
    return classes[compact].reshape(label.shape)


def read_label_map(path: str | os.PathLike) -> tuple[dict[int, int], tuple[str, ...]]:
    """Reads a label map file (formats: see the module).

    Args:
        path: of the file, or the bare name of a shipped one (``freesurfer``).

    Returns:
        The map, and the class names with the background first; no names where the file has none.

    Raises:
        DataError: the file is missing or not such a map.
    """
    path = label_map_file(path)
    try:
        if path.suffix.lower() == ".csv":
            return _from_csv(path)
        return _from_json(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; check the path") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        detail = " ".join(str(error).split())
        raise DataError(
            f"{path}: not a label map ({detail}); give JSON "
            '{"name": [values, ...]} or {"value": class}, or CSV value,class,name'
        ) from error


def label_map_file(path: str | os.PathLike) -> pathlib.Path:
    """The file itself, or for a bare name the shipped file of that name.

    Raises:
        DataError: a bare name that is neither a file here nor shipped.
    """
    path = pathlib.Path(path)
    if path.name != str(path) or path.suffix or path.is_file():
        return path
    shipped = config_folder() / "labels"
    found = shipped / f"{path.name}.csv"
    if not found.exists():
        names = ", ".join(sorted(file.stem for file in shipped.glob("*.csv")))
        raise DataError(
            f"label map '{path}' is no file and none of the shipped ones ({names}): give a path"
        )
    return found


def check_label_map(label_map: Mapping[int, int]) -> None:
    """Checks that classes are 0..K-1 without gaps.

    Raises:
        DataError: a negative value, a gap, or no class besides the background.
    """
    classes = sorted({0, *label_map.values()})
    if min(label_map, default=0) < 0 or classes != list(range(len(classes))) or len(classes) < 2:
        raise DataError(
            f"label map onto classes {classes}: number the classes 1, 2, ... without gaps "
            "(0 is the background)"
        )


def class_table(
    occurring: Iterable[int],
    *,
    label_names: Mapping[int, str] | None = None,
    label_map: Mapping[int, int] | None = None,
    class_names: Sequence[str] | None = None,
) -> tuple[dict[int, int], tuple[str, ...]]:
    """File value -> class, and the class names, from what the user and the folder say.

    Args:
        occurring: values found in the label maps.
        label_names: value -> name, from the folder's description.
        label_map: value -> class, from the user; goes before the description.
        class_names: one a class, from the user, the background first.

    Returns:
        The map and the names. Without any description the values that occur are numbered in order.

    Raises:
        DataError: the map has gaps, or the names do not fit.
    """
    if label_map is not None:
        table = dict(label_map)
        check_label_map(table)
        names = tuple(f"class {c}" for c in range(max(table.values()) + 1))
    else:
        named = label_names or {value: f"label {value}" for value in {0, *occurring}}
        table = {value: number for number, value in enumerate(sorted(named))}
        names = tuple(named[value] for value in sorted(named))
    if class_names is None:
        return table, ("background", *names[1:])
    if len(class_names) != len(names):
        raise DataError(
            f"{len(class_names)} class names for {len(names)} classes {list(names)}; give one a "
            "class, the background first"
        )
    return table, tuple(class_names)


def _from_json(path: pathlib.Path) -> tuple[dict[int, int], tuple[str, ...]]:
    content = json.loads(path.read_text())
    if all(str(key).isdecimal() for key in content):
        label_map = {int(value): int(number) for value, number in content.items()}
        check_label_map(label_map)
        return label_map, ()
    label_map, names = {}, ["background"]
    for name, values in content.items():
        values = [values] if isinstance(values, int) else values
        if name == "background":
            number = 0
        else:
            number = len(names)
            names.append(name)
        for value in values:
            if int(value) in label_map:
                raise ValueError(f"value {value} stands in two classes")
            label_map[int(value)] = number
    check_label_map(label_map)
    return label_map, tuple(names)


def _from_csv(path: pathlib.Path) -> tuple[dict[int, int], tuple[str, ...]]:
    label_map, names = {}, {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            value, number = int(row["value"]), int(row["class"])
            if value in label_map:
                raise ValueError(f"value {value} stands in two rows")
            label_map[value] = number
            if row.get("name"):
                names.setdefault(number, row["name"])
    check_label_map(label_map)
    if not names:
        return label_map, ()
    names = {0: "background", **names}
    return label_map, tuple(names.get(n, f"class {n}") for n in range(max(label_map.values()) + 1))
