"""Hearts of a trained model of label maps as anatomies to render.

``FOLDER:METHOD`` as ``experiment.deformation`` puts synthetic subjects of `label_synthesis` in the
place of the labelled ones' hearts: ``pathology`` gives them a disease, ``targeted`` a rare volume,
``equalised`` and ``between`` slices and hearts between those of training subjects. What surrounds
the heart stays the labelled subject's. The model's training subjects have a part in it: they must
be training subjects of the segmenter too.
"""

import pathlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import scipy.ndimage
from jaxtyping import Int

from jaxmedgen.data.build import build_sources
from jaxmedgen.data.image_slices import thick_axis
from jaxmedgen.data.splits import patient_of
from jaxmedgen.experiments.label_files import open_population
from jaxmedgen.experiments.label_synthesis import (
    METHODS,
    Population,
    SyntheticSubject,
    synthesise,
)
from jaxmedgen.experiments.runs import open_run
from jaxmedgen.systems.base import CanCodeLabels

HEART = (1, 2, 3)
"""Left cavity, myocardium, right cavity."""

ANATOMY = 1
"""Third number of the seeds of anatomies; images of the same call have two."""

_SHOWN = (0.1, 0.7)
"""Places on the stack, from base to apex, that a single slice is taken from."""


def population_of(folder: pathlib.Path) -> Population:
    """The training subjects of a trained model of label maps in its latent space.

    Raises:
        ValueError: another kind of model.
    """
    run = open_run(folder)
    if not isinstance(run.system, CanCodeLabels):
        raise ValueError(f"{folder} holds {run.config.system}, which is no model of label maps")
    return open_population(build_sources(run.config.data), run.system, run.variables()[0])


def refuse_held_out(trained_on: Iterable[str], held_out: Iterable[str], model: str) -> None:
    """Checks that no held-out patient had a part in a model, by their names.

    Args:
        trained_on: patients or cases that the model has seen.
        held_out: cases of validation and test.
        model: for the message.

    Raises:
        ValueError: one had.
    """
    known = {patient_of(name) for name in trained_on}
    leaked = sorted(known & {patient_of(name) for name in held_out})
    if leaked:
        raise ValueError(
            f"{model} was trained on held-out patients ({', '.join(leaked[:3])}): train it on the "
            "training subjects alone (--config.experiment.check_names=False if these are other "
            "patients of the same names)"
        )


def hearts_of(
    population: Population, method: str, spacing: Sequence[float | int]
) -> Callable[[int, Int[np.ndarray, " b *s"]], Int[np.ndarray, " b *s"]]:
    """Puts synthetic hearts in the place of the labelled subjects' own.

    Args:
        population: of a model of label maps.
        method: of `label_synthesis.METHODS`.
        spacing: mm an axis of the labelled subjects.

    Raises:
        ValueError: an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"'{method}' of a model of label maps: choose of {', '.join(METHODS)}")
    spacing = tuple(float(s) for s in spacing)

    def deform(seed: int, label: Int[np.ndarray, " b *s"]) -> Int[np.ndarray, " b *s"]:
        made = []
        for number, one in enumerate(label):
            own = np.random.default_rng((seed, number, ANATOMY))
            subject = synthesise(population, method, int(own.integers(2**31)))
            made.append(replaced(one, subject, spacing, own))
        return np.stack(made).astype(np.int32)

    return deform


def replaced(
    label: Int[np.ndarray, "*s"],
    subject: SyntheticSubject,
    spacing: tuple[float, ...],
    rng: np.random.Generator,
) -> Int[np.ndarray, "*s"]:
    """A label map whose heart is that of a synthetic subject, about the same centre.

    A slice gets one of the subject's slices; a volume all of them, along its thickest axis, over
    the slices that its heart has. Where the old heart reached further, its surroundings close in.

    Args:
        label: 2D or 3D; left cavity, myocardium and right cavity are 1, 2 and 3.
        subject: label stack, base first.
        spacing: mm an axis of `label`.
        rng: chooses the slice.
    """
    heart = np.isin(label, HEART)
    if not heart.any():
        return label
    axis = None if label.ndim == 2 else thick_axis(spacing)
    within = tuple(s for k, s in enumerate(spacing) if k != axis)
    factors = [old / new for old, new in zip(subject.spacing[1:], within)]
    stack = np.stack([scipy.ndimage.zoom(s, factors, order=0) for s in subject.label])
    nearest = scipy.ndimage.distance_transform_edt(
        heart, return_distances=False, return_indices=True
    )
    around = label[tuple(nearest)] if not heart.all() else np.zeros_like(label)
    if axis is None:
        place = rng.uniform(*_SHOWN) * (len(stack) - 1)
        return _pasted(around, stack[round(place)], _centre(heart))
    cut, old = (np.moveaxis(x, axis, 0) for x in (around.copy(), heart))
    filled = np.flatnonzero(old.any((1, 2)))
    areas = old[filled].sum((1, 2))
    places = np.linspace(0, len(stack) - 1, len(filled)).round().astype(int)
    if areas[-1] > areas[0]:  # this volume runs from apex to base
        places = places[::-1]
    for k, place in zip(filled, places):
        cut[k] = _pasted(cut[k], stack[place], _centre(old[k]))
    return np.ascontiguousarray(np.moveaxis(cut, 0, axis))


def _centre(mask: np.ndarray) -> tuple[int, int]:
    return tuple(round(c) for c in scipy.ndimage.center_of_mass(mask))


def _pasted(around: np.ndarray, heart: np.ndarray, centre: tuple[int, int]) -> np.ndarray:
    """A picture with the foreground of another one about a centre; what lies outside is cut."""
    made, places = around.copy(), np.argwhere(heart > 0)
    if not len(places):
        return made
    middle = np.round(places.mean(0)).astype(int)
    moved = places - middle + np.asarray(centre)
    inside = ((moved >= 0) & (moved < np.asarray(made.shape))).all(1)
    made[tuple(moved[inside].T)] = heart[tuple(places[inside].T)]
    return made
