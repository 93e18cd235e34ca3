"""Synthetic label maps as files: NIfTI, a record of each, a picture.

The ``labels/`` folder is a label-map folder that the library reads (slices along the last axis:
``--config.data.stack_axis=2``), so that a label-to-image generator can make images for it.
"""

import pathlib
from collections.abc import Sequence

import numpy as np

from jaxmedgen.data.build import Sources
from jaxmedgen.data.nifti import write_volume
from jaxmedgen.data.stacks import EqualisedStacks, Slices
from jaxmedgen.experiments.label_operators import OPERATORS, operate
from jaxmedgen.experiments.label_space import open_space
from jaxmedgen.experiments.label_synthesis import (
    METHODS,
    SyntheticSubject,
    measure_population,
    synthesise,
)
from jaxmedgen.report.pictures import PALETTE, Rgb, montage, save_png
from jaxmedgen.systems.base import CanCodeLabels, PlayerVariables
from jaxmedgen.train.environment import write_json

HEART = ("lv_blood", "lv_myocardium", "rv_blood")
_SHOWN = 8
_COLUMNS = 8
_SCALE = 2


def write_label_maps(
    sources: Sources,
    system: CanCodeLabels,
    variables: PlayerVariables,
    output: pathlib.Path,
    count: int,
    seed: int,
    method: str = "",
) -> None:
    """Synthetic subjects: ``labels/``, ``records.json``, ``samples.png``.

    Args:
        sources: the training stacks are those of ``sources.train``.
        system: a model of label maps.
        variables: of its trained state.
        output: folder.
        count: subjects.
        seed: of the first; each further one has the next number.
        method: one of `label_synthesis.METHODS` or `label_operators.OPERATORS`; by default
            ``between``.

    Raises:
        ValueError: an unknown method, or training data that are no stacks.
    """
    method = method or "between"
    known = (*METHODS, *OPERATORS)
    if method not in known:
        raise ValueError(f"--method {method}: choose one of {', '.join(known)}")
    train = sources.train
    if not isinstance(train, Slices | EqualisedStacks):
        raise ValueError("subjects are made of stacks: set config.data.stacks at training")
    shape = tuple(np.shape(train[0]["label"]))
    heart = train.class_names[1:4] == HEART
    space = open_space(system, variables, shape, heart)
    population = measure_population(space, train.stacks)
    make = operate if method in OPERATORS else synthesise
    made = [make(population, method, seed + number) for number in range(count)]
    write_subjects(made, output)


def write_subjects(subjects: Sequence[SyntheticSubject], output: pathlib.Path) -> None:
    """Files of some subjects.

    Args:
        subjects: label stacks.
        output: folder; ``labels/subject_0000.nii.gz`` has rows, columns and slices as its axes.
    """
    records = []
    for number, subject in enumerate(subjects):
        name = f"subject_{number:04d}"
        between, rows, columns = subject.spacing
        affine = np.diag([rows, columns, between, 1.0])
        volume = np.moveaxis(subject.label, 0, -1)
        write_volume(output / "labels" / f"{name}.nii.gz", volume, affine)
        records.append({"name": name, **subject.record()})
    write_json(output / "records.json", records)
    shown = [stack_row(subject.label) for subject in subjects[:_SHOWN]]
    save_png(output / "samples.png", montage(shown, columns=1))


def stack_row(label: np.ndarray, columns: int = _COLUMNS) -> Rgb:
    """Slices of a stack at equal steps, base on the left, in the classes' colours.

    Args:
        label: classes ``[n, h, w]``.
        columns: slices that are shown.
    """
    chosen = np.round(np.linspace(0, len(label) - 1, min(columns, len(label)))).astype(int)
    return montage([coloured(label[k]) for k in chosen], columns=len(chosen), gap=2)


def coloured(label: np.ndarray) -> Rgb:
    """One slice of classes as a picture, twice its size."""
    hexes = ["#000000", *PALETTE]
    table = np.asarray([[int(h[i : i + 2], 16) for i in (1, 3, 5)] for h in hexes], np.uint8)
    picture = table[np.asarray(label) % len(table)]
    return picture.repeat(_SCALE, 0).repeat(_SCALE, 1)
