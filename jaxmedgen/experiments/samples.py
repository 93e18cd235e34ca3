"""Labelled scans that a system makes, as NIfTI files and a picture.

Layouts: ``plain`` (``images/`` and ``labels/``) and ``nnunet`` (`data.nnunet`). A system of 2D
images that was trained on slices of volumes makes volumes: stacks of slices in one style.
"""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxmedgen.data import nnunet
from jaxmedgen.data.build import Sources
from jaxmedgen.data.grid_affines import affine_of, common_affine, upright
from jaxmedgen.data.image_slices import ImageSlices
from jaxmedgen.data.nifti import write_volume
from jaxmedgen.data.phantoms.label_stacks import label_stacks
from jaxmedgen.data.pipeline import SampleStream
from jaxmedgen.experiments.rendering import compiled, draw_image
from jaxmedgen.report.pictures import Rgb, montage, save_png, three_planes
from jaxmedgen.systems.base import CanDeform, CanSample, CanStylise, HasAtlas
from jaxmedgen.types import Variables

Layout = Literal["plain", "nnunet"]

_GROUP = 8
"""Subjects that are deformed at a time."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A label map to make an image of.

    Attributes:
        label: ``[*s]``.
        spacing: mm an axis.
        style: image whose style may be taken, ``[*r, c]``.
        slice_axis: the axis of `label` that is made slice by slice, or None.
        affine: voxel index to mm; None stands the spacing upright.
    """

    label: np.ndarray
    spacing: tuple[float, ...]
    style: np.ndarray | None = None
    slice_axis: int | None = None
    affine: np.ndarray | None = None


def write_samples(
    config: ConfigDict,
    sources: Sources,
    system: CanSample,
    variables: dict[str, Variables],
    output: pathlib.Path,
    count: int,
    seed: int,
    layout: Layout = "plain",
) -> None:
    """Synthetic scans of label maps with their labels, and ``samples.png``.

    Label maps are those of training subjects, whole volumes where their slices were trained on, or
    for short-axis phantoms stacks that nobody was trained on. Scans of a whole subject's label map
    have its affine, draws of a system with an atlas that of the population.

    Raises:
        ValueError: this configuration makes no images.
    """
    stylise = isinstance(system, CanStylise) and getattr(system, "needs_style", False)
    draw, pictures = compiled(system, variables, stylise=stylise), []
    whole = common_affine(sources.train) if isinstance(system, HasAtlas) else None
    for number, wanted in enumerate(wanted_labels(config, sources, count, seed)):
        key = jax.random.fold_in(jax.random.key(seed), number)
        style = wanted.style if stylise else None
        image, label = draw_image(draw, key, wanted.label, wanted.slice_axis, style)
        affine = wanted.affine if whole is None else whole
        affine = upright(wanted.spacing) if affine is None else affine
        pictures.append(_write(output, number, image, label, wanted.spacing, affine, layout))
    _finish(output, sources, pictures, layout)


def wanted_labels(config: ConfigDict, sources: Sources, count: int, seed: int) -> Iterator[Wanted]:
    """Label maps to make images of, in a seeded order; see `write_samples`."""
    train, spacing = sources.train, sources.info.spacing
    if isinstance(train, ImageSlices):
        volumes = SampleStream(train.source, seed)
        for number in range(count):
            record = volumes[number]
            axis = train.axis_of(record)
            image = train.slices_first(record, record["image"])
            own = tuple(float(s) for s in record.get("spacing", train.source.info.spacing))
            affine = affine_of(train.source, int(record["case"]))
            yield Wanted(record["label"], own, image[len(image) // 2], axis, affine)
        return
    patch = tuple(config.patch_size) or None
    stream = SampleStream(train, seed, patch)
    if config.data.kind == "short_axis":
        stacks = label_stacks(count, tuple(config.data.shape), config.data.heart_classes, seed)
        for number, (label, own) in enumerate(stacks):
            yield Wanted(label, own, stream[number]["image"], 0)
        return
    for number in range(count):
        record = stream[number]
        affine = None if patch else affine_of(train, int(record["case"]))
        yield Wanted(record["label"], spacing, record.get("image"), affine=affine)


def write_deformed(
    sources: Sources,
    system: CanDeform,
    variables: dict[str, Variables],
    output: pathlib.Path,
    count: int,
    seed: int,
    layout: Layout = "plain",
) -> None:
    """Training subjects deformed the way their population varies: files as `write_samples`.

    Each has the affine of the subject that was deformed.

    Raises:
        ValueError: subjects without a label map.
    """
    if "label" not in sources.train[0]:
        raise ValueError("the training images have no label maps: there is nothing to move along")
    deform = jax.jit(lambda keys, image, label: system.deform(variables, keys, image, label))
    stream, pictures = SampleStream(sources.train, seed), []
    size = min(_GROUP, len(sources.train))
    for start in range(0, count, size):
        records = [stream[start + i] for i in range(size)]
        image, label = (jnp.stack([jnp.asarray(r[k]) for r in records]) for k in ("image", "label"))
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), start), size)
        made = map(np.asarray, deform(keys, image, label))
        for number, (one, classes) in enumerate(zip(*made), start):
            if number < count:
                spacing = sources.info.spacing
                affine = affine_of(sources.train, int(records[number - start]["case"]))
                pictures.append(_write(output, number, one, classes, spacing, affine, layout))
    _finish(output, sources, pictures, layout)


def _write(output, number, image, label, spacing, affine, layout) -> Rgb:
    """One scan's files; returns its picture. Several channels are numbered as nnU-Net does."""
    name = f"sample_{number:04d}"
    if layout == "nnunet":
        nnunet.write_case(output, name, image, label, affine)
        return three_planes(image, label, spacing=spacing)
    channels = image.shape[-1]
    for k in range(channels):
        end = "" if channels == 1 else f"_{k:04d}"
        write_volume(output / "images" / f"{name}{end}.nii.gz", image[..., k], affine)
    write_volume(output / "labels" / f"{name}.nii.gz", label.astype(np.uint8), affine)
    return three_planes(image, label, spacing=spacing)


def _finish(output, sources, pictures, layout) -> None:
    if layout == "nnunet":
        nnunet.write_description(output, sources.info, len(pictures))
    save_png(output / "samples.png", montage(pictures[:8], columns=2))
