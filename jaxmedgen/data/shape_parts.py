"""Training, validation and test subjects of a folder of label maps with classes."""

import pathlib
from typing import Any

from jaxmedgen.data.label_map import read_label_map
from jaxmedgen.data.shape_folder import TABLE, Grid, ShapeFolder
from jaxmedgen.data.sources import DatasetInfo, Subset, subset
from jaxmedgen.data.splits import first_patients, train_test_split


def has_classes(folder: str) -> bool:
    """Whether a folder has the table of a `ShapeFolder`, and not a label map of that name."""
    path = pathlib.Path(folder) / TABLE
    if not folder or not path.is_file():
        return False
    with path.open(errors="replace") as file:
        return not file.readline().lower().startswith("value")


def shape_folder(
    data: Any, trained: DatasetInfo | None = None, labelled: bool = True
) -> ShapeFolder:
    """The label maps with classes of ``data.folder``, on the grid of ``data.shape``.

    Args:
        data: the ``data`` group of a configuration.
        trained: what a model was trained on, whose spacing and phases these must have.
        labelled: False for a folder without classes.

    Raises:
        ValueError: a spacing that is not one number; other phases than those trained on.
        DataError: a file or the table cannot be used.
    """
    edge = None if trained is None else float(trained.spacing[0])
    if trained is None and data.spacing != "native":
        try:
            edge = float(data.spacing)
        except ValueError:
            raise ValueError(f"data.spacing='{data.spacing}': give native, or mm as 2") from None
    template = data.get("template", "")
    found = ShapeFolder(
        data.folder,
        Grid(tuple(data.shape), edge, pathlib.Path(template) if template else None),
        tuple(data.target_names),
        read_label_map(data.label_map)[0] if data.label_map else None,
        labelled,
    )
    channels = found.info.channel_names
    if trained is not None and len(channels) != len(trained.channel_names):
        raise ValueError(
            f"{data.folder} has {', '.join(channels)} of each case, the run was trained on "
            f"{', '.join(trained.channel_names)}: name the files CASE_ED and CASE_ES, or CASE"
        )
    return found


def shape_parts(data: Any) -> tuple[Subset, Subset, Subset]:
    """Training, validation and test subjects, as many held-out ones of each class.

    ``data.test`` and ``data.validation`` are held out, of the others ``data.train`` train (0: all).

    Raises:
        ValueError: numbers that the classes cannot share evenly, or too few subjects.
    """
    source = shape_folder(data)
    kinds, names = source.info.num_classes, source.info.case_names
    for name in ("train", "validation", "test"):
        if data[name] % kinds:
            raise ValueError(f"data.{name}={data[name]}: give a multiple of the {kinds} classes")
    number = {name: i for i, name in enumerate(names)}
    parts: tuple[list[int], ...] = ([], [], [])
    for kind in range(kinds):
        rest = tuple(name for name in names if source.target_of(number[name]) == kind)
        held = []
        for count, seed in ((data.test, data.seed), (data.validation, data.seed + 1)):
            if len(rest) <= count // kinds:
                raise ValueError(
                    f"{data.folder}: {len(rest)} subjects of class {source.info.class_names[kind]} "
                    f"left where data.test and data.validation take {count // kinds}: lower them"
                )
            chosen = ()
            if count:
                split = train_test_split(rest, test_count=count // kinds, seed=seed)
                rest, chosen = tuple(split.train), tuple(split.test)
            held.append(chosen)
        if data.train:
            rest = first_patients(rest, data.train // kinds, seed=data.seed + 2)
        for part, chosen in zip(parts, (rest, held[1], held[0])):
            part += [number[name] for name in chosen]
    return tuple(subset(source, sorted(part)) for part in parts)
