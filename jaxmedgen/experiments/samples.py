"""Labelled scans that a system makes, as NIfTI files and a picture.

Layouts: ``plain`` (``images/`` and ``labels/``) and ``nnunet`` (`data.nnunet`). A system of 2D
images that was trained on slices of volumes makes volumes: stacks of slices in one style.
"""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree
from ml_collections import ConfigDict

from jaxmedgen.data import nnunet
from jaxmedgen.data.build import Sources
from jaxmedgen.data.case_groups import vendor_names
from jaxmedgen.data.grid_affines import affine_of, common_affine, upright
from jaxmedgen.data.image_slices import ImageSlices
from jaxmedgen.data.nifti import write_volume
from jaxmedgen.data.phantoms.label_stacks import label_stacks
from jaxmedgen.data.pipeline import SampleStream
from jaxmedgen.data.sources import Record
from jaxmedgen.experiments.rendering import compiled, draw_image
from jaxmedgen.experiments.synthetic.manifest import SetLog
from jaxmedgen.report.pictures import Rgb, montage, save_png, three_planes
from jaxmedgen.systems.base import CanDeform, CanSample, CanStylise, HasAtlas, PlayerVariables
from jaxmedgen.types import Variables

Layout = Literal["plain", "nnunet"]

_GROUP = 8
"""Subjects that are deformed at a time."""


@runtime_checkable
class LendsPerspectives(CanDeform, Protocol):
    """Shows subjects in the perspective of others, who need not be in the same batch.

    `CanDeform.deform` then takes the others' perspectives as ``lenders``.
    """

    def perspectives(
        self, variables: PlayerVariables, image: Float[Array, "b *s c"]
    ) -> PyTree[Array]:
        """What each image lends, arrays with a leading axis of images."""
        ...


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A label map to make an image of.

    Attributes:
        label: ``[*s]``.
        spacing: mm an axis.
        style: image whose style may be taken, ``[*r, c]``; of volumes for a system of slices the
            whole, slices first.
        slice_axis: the axis of `label` that is made slice by slice, or None.
        subject: name of the case that the label map and the style image are of.
        vendor: of the style image, "" where it is not known.
        affine: voxel index to mm; None stands the spacing upright.
    """

    label: np.ndarray
    spacing: tuple[float, ...]
    style: np.ndarray | None = None
    slice_axis: int | None = None
    subject: str = ""
    vendor: str = ""
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
    *,
    style: str = "",
    vendor: str = "",
) -> None:
    """Synthetic scans of label maps with their labels, ``samples.png`` and ``manifest.json``.

    The manifest says which case each is of and in which style (`synthetic.manifest`). Label maps
    are those of training subjects, whole volumes where their slices were trained on, or for
    short-axis phantoms stacks that nobody was trained on. Scans of a whole subject's label map have
    its affine, draws of a system with an atlas that of the population.

    Args:
        config: of the system.
        sources: whose training subjects' label maps are taken.
        system: makes the images.
        variables: of its trained state.
        output: folder.
        count: images.
        seed: of what is drawn.
        layout: of the files.
        style: ``own`` takes each image's style from the subject's own image, as systems without
            styles to draw do anyway.
        vendor: style by its name, for all images.

    Raises:
        ValueError: this configuration makes no images, or has no such styles.
    """
    own = style == "own" or (
        not vendor and isinstance(system, CanStylise) and getattr(system, "needs_style", False)
    )
    draw = compiled(system, variables, stylise=own, vendor=vendor)
    whole = common_affine(sources.train) if isinstance(system, HasAtlas) else None
    pictures, log = [], SetLog()
    for number, wanted in enumerate(wanted_labels(config, sources, count, seed)):
        key = jax.random.fold_in(jax.random.key(seed), number)
        image, label = draw_image(
            draw, key, wanted.label, wanted.slice_axis, wanted.style if own else None
        )
        affine = wanted.affine if whole is None else whole
        affine = upright(wanted.spacing) if affine is None else affine
        pictures.append(_write(output, number, image, label, wanted.spacing, affine, layout))
        shown = vendor or ((wanted.vendor or "own") if own else f"random-{number}")
        name, axis = f"sample_{number:05d}", wanted.slice_axis
        log.add(name, wanted.subject, shown, image, label, axis)
    policy, names = vendor or ("own" if own else "random"), sources.info.class_names
    log.write(
        output,
        generator=config.system,
        deformation="none",
        style=policy,
        seed=seed,
        class_names=names,
    )
    _finish(output, sources, pictures, layout)


def wanted_labels(config: ConfigDict, sources: Sources, count: int, seed: int) -> Iterator[Wanted]:
    """Label maps to make images of, in a seeded order; see `write_samples`."""
    train, spacing = sources.train, sources.info.spacing
    if isinstance(train, ImageSlices):
        volumes = SampleStream(train.source, seed)
        for number in range(count):
            record = volumes[number]
            case = train.source.info.case_names[volumes.source_index(number)]
            axis = train.axis_of(record)
            image = train.slices_first(record, record["image"])
            own = tuple(float(s) for s in record.get("spacing", train.source.info.spacing))
            vendor = _vendor(config, record)
            affine = affine_of(train.source, int(record["case"]))
            yield Wanted(record["label"], own, image, axis, case, vendor, affine)
        return
    patch = tuple(config.patch_size) or None
    stream = SampleStream(train, seed, patch)
    if config.data.kind == "short_axis":
        stacks = label_stacks(count, tuple(config.data.shape), config.data.heart_classes, seed)
        for number, (label, own) in enumerate(stacks):
            record, case = stream[number], f"stack-{seed}-{number:04d}"
            yield Wanted(label, own, record["image"], 0, case, _vendor(config, record))
        return
    for number in range(count):
        record = stream[number]
        case = train.info.case_names[stream.source_index(number)]
        vendor = _vendor(config, record)
        affine = None if patch else affine_of(train, int(record["case"]))
        yield Wanted(record["label"], spacing, record.get("image"), None, case, vendor, affine)


def _vendor(config: ConfigDict, record: Record) -> str:
    if "vendor" not in record:
        return ""
    return vendor_names(tuple(config.data.get("vendors", ())))[int(record["vendor"])]


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

    Each has the affine of the subject that was deformed. All training subjects lend their
    perspective, not only those that are deformed with it.

    Raises:
        ValueError: subjects without a label map.
    """
    if "label" not in sources.train[0]:
        raise ValueError("the training images have no label maps: there is nothing to move along")
    lent = {}
    if isinstance(system, LendsPerspectives):
        lent = {"lenders": _perspectives(system, variables, sources.train)}
    deform = jax.jit(
        lambda keys, image, label: system.deform(variables, keys, image, label, **lent)
    )
    stream, pictures, log = SampleStream(sources.train, seed), [], SetLog()
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
                case = sources.train.info.case_names[stream.source_index(number)]
                log.add(f"sample_{number:05d}", case, "own", one, classes)
    log.write(
        output,
        generator=type(system).__name__,
        deformation="population",
        style="own",
        seed=seed,
        class_names=sources.train.info.class_names,
    )
    _finish(output, sources, pictures, layout)


def _perspectives(system, variables, train):
    """What all subjects lend, read one at a time."""
    look = jax.jit(lambda image: system.perspectives(variables, image))
    found = [look(jnp.asarray(train[k]["image"])[None]) for k in range(len(train))]
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *found)


def _write(output, number, image, label, spacing, affine, layout) -> Rgb:
    """One scan's files; returns its picture. Several channels are numbered as nnU-Net does."""
    name = f"sample_{number:05d}"
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
