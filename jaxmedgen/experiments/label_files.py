"""Synthetic label maps as files: NIfTI, a record of each, a picture.

The ``labels/`` folder is a label-map folder that the library reads (slices along the last axis:
``--config.data.stack_axis=2``), so that a label-to-image generator can make images for it.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np

from jaxmedgen.data.build import Sources
from jaxmedgen.data.nifti import write_volume
from jaxmedgen.data.stacks import EqualisedStacks, Slices
from jaxmedgen.experiments.label_operators import OPERATORS, operate
from jaxmedgen.experiments.label_space import open_space
from jaxmedgen.experiments.label_synthesis import (
    METHODS,
    Population,
    SyntheticSubject,
    measure_population,
    synthesise,
)
from jaxmedgen.metrics.cardiac import check_heart_order
from jaxmedgen.report.pictures import PALETTE, Rgb, montage, save_png
from jaxmedgen.systems.base import CanCodeLabels, PlayerVariables
from jaxmedgen.train.environment import write_json

HEART = ("lv_blood", "lv_myocardium", "rv_blood")
_TRIES = 20
_SHOWN = 8
_COLUMNS = 8
_SCALE = 2


@dataclasses.dataclass(frozen=True)
class LabelWishes:
    """What is wanted of synthetic label maps, as `label_synthesis.synthesise` takes it.

    Attributes:
        disease: of ``pathology``.
        phase: ED or ES, where training subjects have both.
        t: place on the path of ``between`` and ``pathology``; above 1 beyond its end.
        attribute: of ``targeted``.
        percentile: of ``targeted``.
        correlate: how the slices of a drawn subject go together.
        spherical: interpolates on arcs.
        steps: subjects on the path of each sample, from t = 0 to 1; 0 takes one.
        embed: ``mean`` or ``sample`` (as the reference implementation does for its statistics) of
            the posteriors of training subjects.
        plausible: least share of slices with the topology of a heart; subjects (and paths) with
            less are drawn again.
    """

    disease: str = ""
    phase: str = ""
    t: float | None = None
    attribute: str = "lv_volume"
    percentile: float | int = 97.5
    correlate: str = "moments"
    spherical: bool = False
    steps: int = 0
    embed: Literal["mean", "sample"] | str = "mean"
    plausible: float | int = 0.0


_USED_BY = {
    "disease": ("pathology",),
    "phase": METHODS,
    "t": ("between", "pathology"),
    "attribute": ("targeted",),
    "percentile": ("targeted",),
    "correlate": ("pathology",),
    "spherical": ("between", "pathology"),
    "steps": ("between", "pathology"),
    "embed": METHODS,
    "plausible": (*METHODS, *OPERATORS),
}
"""Methods that look at a wish."""

_NOT_DRAWN = ("t", "steps", "embed", "plausible")
"""Wishes that `synthesise` is not told."""


def check_wishes(wishes: LabelWishes, method: str) -> None:
    """Names the first wish that the method does not look at.

    Raises:
        ValueError: there is one.
    """
    usual = LabelWishes()
    for name, methods in _USED_BY.items():
        if getattr(wishes, name) != getattr(usual, name) and method not in methods:
            raise ValueError(f"--{name} is for --method {' or '.join(methods)}, not {method}")
    if wishes.steps and (wishes.t is not None or wishes.steps < 2):
        raise ValueError("--steps takes two or more subjects from t = 0 to 1: leave out --t")
    if wishes.embed not in ("mean", "sample") or not 0 <= wishes.plausible <= 1:
        raise ValueError(
            f"--embed {wishes.embed} --plausible {wishes.plausible:g}: give mean or sample, and a "
            "share from 0 to 1"
        )


def write_label_maps(
    sources: Sources,
    system: CanCodeLabels,
    variables: PlayerVariables,
    output: pathlib.Path,
    count: int,
    seed: int,
    method: str = "",
    wishes: LabelWishes | None = None,
) -> None:
    """Synthetic subjects: ``labels/``, ``records.json``, ``samples.png``.

    Args:
        sources: the training stacks are those of ``sources.train``.
        system: a model of label maps.
        variables: of its trained state.
        output: folder.
        count: subjects, or paths of ``wishes.steps`` subjects.
        seed: of all draws: each subject's own, which its record tells, is `draw_seed` of it.
        method: one of `label_synthesis.METHODS` or `label_operators.OPERATORS`; by default
            ``between``.
        wishes: of the method.

    Raises:
        ValueError: an unknown method, wishes that it does not look at, or training data that are
            no stacks.
    """
    method, wishes = method or "between", wishes or LabelWishes()
    known = (*METHODS, *OPERATORS)
    if method not in known:
        raise ValueError(f"--method {method}: choose one of {', '.join(known)}")
    check_wishes(wishes, method)
    rng = np.random.default_rng(seed) if wishes.embed == "sample" else None
    population = open_population(sources, system, variables, rng)
    if wishes.plausible and not population.space.heart:
        raise ValueError("--plausible is for hearts: classes must be called " + ", ".join(HEART))
    settings = {name: getattr(wishes, name) for name in _USED_BY if name not in _NOT_DRAWN}
    places = np.linspace(0, 1, wishes.steps) if wishes.steps else (wishes.t,)

    def draw(number: int) -> list[SyntheticSubject]:
        if method in OPERATORS:
            return [operate(population, method, number)]
        return [
            synthesise(population, method, number, t=None if t is None else float(t), **settings)
            for t in places
        ]

    made = []
    for number in range(count):
        tries = (draw_seed(seed, number, again) for again in range(_TRIES))
        made += drawn_plausibly(draw, tries, wishes)
    names = sources.train.info.class_names
    write_subjects(made, output, shown=max(wishes.steps, _SHOWN), class_names=names)


def draw_seed(seed: int, number: int, again: int) -> int:
    """The seed of one draw: calls with neighbouring seeds have no draw in common.

    Args:
        seed: of the call.
        number: of the sample in it, from 0.
        again: draws of this sample before this one.

    Returns:
        A number from 0 to 2^32 - 1.
    """
    return int(np.random.SeedSequence((seed, number, again)).generate_state(1)[0])


def drawn_plausibly(
    draw: Callable[[int], list[SyntheticSubject]], seeds: Iterable[int], wishes: LabelWishes
) -> list[SyntheticSubject]:
    """The first draw all of whose subjects are as plausible as is wished.

    Args:
        draw: a sample of a seed: one subject, or those of a path.
        seeds: that are tried, in this order.
        wishes: of which ``plausible`` counts.

    Raises:
        ValueError: none of them is.
    """
    best = 0.0
    for seed in seeds:
        made = draw(seed)
        share = min(subject.plausible_slices for subject in made)
        if share >= wishes.plausible:
            return made
        best = max(best, share)
    raise ValueError(
        f"--plausible {wishes.plausible:g}: {_TRIES} draws reached {best:.2f} at most: ask for "
        "less, or train the model longer"
    )


def open_population(
    sources: Sources,
    system: CanCodeLabels,
    variables: PlayerVariables,
    rng: np.random.Generator | None = None,
) -> Population:
    """The training subjects of a model of label maps in its latent space.

    With a generator they are draws of their posteriors, otherwise the means.

    Raises:
        ValueError: training data that are no stacks, or a heart's classes in another order.
    """
    train = sources.train
    if not isinstance(train, Slices | EqualisedStacks):
        raise ValueError("subjects are made of stacks: set config.data.stacks at training")
    check_heart_order(train.class_names)
    shape = tuple(np.shape(train[0]["label"]))
    heart = train.class_names[1:4] == HEART
    space = open_space(system, variables, shape, heart)
    return measure_population(space, train.stacks, rng=rng)


def write_subjects(
    subjects: Sequence[SyntheticSubject],
    output: pathlib.Path,
    shown: int = _SHOWN,
    class_names: Sequence[str] = (),
) -> None:
    """Files of some subjects.

    Args:
        subjects: label stacks.
        output: folder; ``labels/subject_00000.nii.gz`` has rows, columns and slices as its axes,
            which the records say (`written_labels`): equalised slices may be thinner than pixels.
        shown: subjects that the picture has, a row each.
        class_names: of the label values, for the records.
    """
    noted = {"slice_axis": 2, "class_names": list(class_names)}
    records = []
    for number, subject in enumerate(subjects):
        name = f"subject_{number:05d}"
        between, rows, columns = subject.spacing
        affine = np.diag([rows, columns, between, 1.0])
        volume = np.moveaxis(subject.label, 0, -1)
        write_volume(output / "labels" / f"{name}.nii.gz", volume, affine)
        records.append({"name": name, **subject.record(), **noted})
    write_json(output / "records.json", records)
    rows = [stack_row(subject.label) for subject in subjects[:shown]]
    save_png(output / "samples.png", montage(rows, columns=1))


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
