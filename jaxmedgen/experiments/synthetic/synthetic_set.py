"""Builds synthetic labelled sets: training label maps, deformed, rendered in chosen styles.

All experiments take their synthetic images from here. A set is a pure function of its subjects,
recipe and seed; its manifest says how it was made and counts *distinct anatomies* and *distinct
styles* apart, because their effects differ.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxmedgen.data.nifti import write_volume
from jaxmedgen.data.sources import ArraySource, Source
from jaxmedgen.experiments.synthetic.anatomy import Deformation, keep
from jaxmedgen.experiments.synthetic.generators import OWN_STYLE, RANDOM_STYLE, Generator
from jaxmedgen.experiments.synthetic.manifest import FILE, SetLog
from jaxmedgen.train.environment import write_json

_GROUP = 32
"""Images made at a time."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How label maps become images.

    Attributes:
        deformation: of the label maps.
        name: of the deformation, for the manifest.
        style: ``own`` (the subject's vendor, or its own image where vendors are not known),
            ``other`` (another one of `vendors`), ``random`` (as the generator likes), or a
            vendor's name.
        vendors: that ``other`` chooses from.
        seed: of everything that is drawn.
    """

    deformation: Deformation = keep
    name: str = "none"
    style: str = "own"
    vendors: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.style == "other" and len(self.vendors) < 2:
            raise ValueError(
                f"style 'other' chooses among vendors {self.vendors}: name two or more"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class SyntheticSet:
    """A set with its history.

    Attributes:
        source: the labelled images.
        manifest: ``version`` (hash of all images and labels), ``generator``, ``deformation``,
            ``style``, ``seed``, ``class_names``, ``count``, ``anatomies``, ``styles`` and, for
            every image, its name, subject and style (``images``).
    """

    source: ArraySource
    manifest: Mapping[str, Any]


def build_set(
    source: Source,
    generator: Generator,
    recipe: Recipe,
    count: int,
    *,
    groups: Sequence[str] | None = None,
) -> SyntheticSet:
    """Makes `count` labelled images of the subjects of `source`, which take turns.

    Args:
        source: real labelled subjects; nobody else is seen.
        generator: renders their label maps.
        recipe: deformation and style.
        count: number of images.
        groups: vendor of every subject, for the styles ``own`` and ``other``.

    Raises:
        ValueError: no subjects, or not one group a subject.
    """
    if not len(source) or count < 1:
        raise ValueError(f"{count} images of {len(source)} subjects: give one of each at least")
    if groups is not None and len(groups) != len(source):
        raise ValueError(f"{len(groups)} groups for {len(source)} subjects")
    rng = np.random.default_rng(recipe.seed)
    order = np.concatenate([rng.permutation(len(source)) for _ in range(-(-count // len(source)))])
    records, log = [], SetLog()
    for start in range(0, count, _GROUP):
        numbers = np.resize(order[start : min(start + _GROUP, count)], _GROUP)
        styles = [_style(recipe, groups, int(i), rng) for i in numbers]
        seed = recipe.seed * 100_003 + start
        real = [source[int(i)] for i in numbers]
        image = np.stack([np.asarray(r["image"], np.float32) for r in real])
        label = np.stack([np.asarray(r["label"], np.int32) for r in real])
        made, labels = generator(seed, image, recipe.deformation(seed, label), styles)
        for k in range(min(_GROUP, count - start)):
            record = {
                "image": np.asarray(made[k], np.float32),
                "label": np.asarray(labels[k], np.int32),
            }
            records.append(record)
            shown = f"{RANDOM_STYLE}-{start + k}" if styles[k] == RANDOM_STYLE else styles[k]
            subject = source.info.case_names[int(numbers[k])]
            log.add(f"synthetic-{start + k:05d}", subject, shown, **record)
    manifest = log.manifest(
        generator=generator.name,
        deformation=recipe.name,
        style=recipe.style,
        seed=recipe.seed,
        class_names=source.info.class_names,
    )
    names = tuple(entry["name"] for entry in manifest["images"])
    info = dataclasses.replace(source.info, case_names=names)
    return SyntheticSet(ArraySource(records, info), manifest)


def write_set(made: SyntheticSet, folder: pathlib.Path) -> None:
    """Writes ``images/``, ``labels/`` (NIfTI) and ``manifest.json``."""
    spacing = made.source.info.spacing
    affine = np.diag([*spacing, *[1.0] * (4 - len(spacing))])
    for name, record in zip(made.source.info.case_names, made.source.records):
        channels = record["image"].shape[-1]
        for k in range(channels):
            end = "" if channels == 1 else f"_{k:04d}"
            path = folder / "images" / f"{name}{end}.nii.gz"
            write_volume(path, record["image"][..., k], affine)
        write_volume(folder / "labels" / f"{name}.nii.gz", record["label"].astype(np.uint8), affine)
    write_json(folder / FILE, dict(made.manifest))


def _style(recipe: Recipe, groups: Sequence[str] | None, subject: int, rng) -> str:
    if recipe.style in ("own", "other"):
        if groups is None:
            return OWN_STYLE if recipe.style == "own" else RANDOM_STYLE
        if recipe.style == "own":
            return groups[subject]
        others = [v for v in recipe.vendors if v != groups[subject]]
        return others[int(rng.integers(len(others)))]
    return recipe.style
