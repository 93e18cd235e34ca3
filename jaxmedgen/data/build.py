"""Training, validation and test sources from a configuration's ``data`` group."""

import dataclasses
from typing import Any

from jaxmedgen.data.case_groups import with_vendors
from jaxmedgen.data.dsprites import dsprites_parts
from jaxmedgen.data.finding_folder import finding_parts
from jaxmedgen.data.folder_parts import (
    check_split_file,
    folder_parts,
    folder_source,
    preprocessing,
    tfds_parts,
)
from jaxmedgen.data.hemispheres import (
    finding_of,
    hemisphere_parts,
    hemisphere_settings,
    hemisphere_subjects,
)
from jaxmedgen.data.image_slices import ImageSlices
from jaxmedgen.data.missing_settings import missing_settings_told
from jaxmedgen.data.mnist import digit_parts
from jaxmedgen.data.phantoms.brain import BrainCohort
from jaxmedgen.data.phantoms.cluttered_digits import cluttered_parts
from jaxmedgen.data.phantoms.digit_masks import DigitMasks
from jaxmedgen.data.phantoms.ellipses import Ellipses
from jaxmedgen.data.phantoms.glyphs import Glyphs
from jaxmedgen.data.phantoms.heart_parts import (
    heart_slice_parts,
    numbered_parts,
    short_axis_parts,
    short_axis_stack_parts,
)
from jaxmedgen.data.phantoms.hippocampus import Hippocampi
from jaxmedgen.data.phantoms.late_enhancement import LateEnhancement
from jaxmedgen.data.phantoms.left_ventricle import LeftVentricles
from jaxmedgen.data.phantoms.lesion_images import LesionImages, Shift
from jaxmedgen.data.phantoms.population import Population
from jaxmedgen.data.phantoms.rotated_lesions import RotatedLesions
from jaxmedgen.data.phantoms.rotated_textures import RotatedTextures
from jaxmedgen.data.phantoms.shapes import Shapes
from jaxmedgen.data.phantoms.vessel_junctions import VesselJunctions
from jaxmedgen.data.planes import plane_parts
from jaxmedgen.data.prepared import check_fitted
from jaxmedgen.data.preprocess import Preprocessing
from jaxmedgen.data.shape_parts import has_classes, shape_parts
from jaxmedgen.data.simulated import SimulatedScans
from jaxmedgen.data.sources import (
    DatasetInfo,
    Source,
    in_memory,
    joined,
    relabel,
)
from jaxmedgen.data.stacks import stack_samples
from jaxmedgen.data.unpaired import Origin

__all__ = ["KINDS", "Sources", "build_sources", "folder_source", "preprocessing"]

KINDS = (
    *("brain", "lesions", "shapes", "population", "glyphs", "rotated_lesions", "textures"),
    *("ellipses", "digit_masks", "vessel_junctions"),
    *("short_axis", "short_axis_stack", "heart_slices", "late_enhancement", "cluttered_digits"),
    *("left_ventricle", "hippocampus", "hemispheres", "findings", "fetal_skull", "mnist"),
    *("dsprites", "folder", "tfds"),
)

_NUMBERED = {
    "shapes": Shapes,
    "population": Population,
    "glyphs": Glyphs,
    "left_ventricle": LeftVentricles,
    "hippocampus": Hippocampi,
    "ellipses": Ellipses,
    "digit_masks": DigitMasks,
    "vessel_junctions": VesselJunctions,
    "textures": lambda size, shape, seed, start: RotatedTextures(size, shape[0], seed, start),
}
"""Phantoms of a size, a shape, a seed and a first number."""

_IN_PARTS = {
    "short_axis": short_axis_parts,
    "short_axis_stack": short_axis_stack_parts,
    "heart_slices": heart_slice_parts,
    "cluttered_digits": cluttered_parts,
    "mnist": digit_parts,
    "dsprites": dsprites_parts,
}
"""Kinds whose modules split them."""


_SCANS = ("folder", "tfds", "hemispheres", "findings")
"""Kinds whose subjects are preprocessed by fitted settings."""


@dataclasses.dataclass(frozen=True)
class Sources:
    """Disjoint subjects of one data set.

    Attributes:
        train: with generation labels, where ``data.target_of`` merges them into fewer classes.
        validation: with the classes that are predicted.
        test: likewise.
        info: the classes that are predicted, channels and spacing.
    """

    train: Source
    validation: Source
    test: Source
    info: DatasetInfo


@missing_settings_told
def build_sources(data: Any, prepared: Preprocessing | None = None) -> Sources:
    """The sources that ``config.data`` describes.

    Phantoms are generated once and kept in memory; folders are read and checked.

    Args:
        data: the ``data`` group of a configuration, see `configs/unet.py`.
        prepared: fitted settings of scans (folders, hemispheres, findings, TFDS), taken instead of
            being fitted to those that train: a stored run's, which may have been fitted to others
            (`Description.preprocessing`; of hemispheres its ``origin.preprocessing``). What is not
            preprocessed so (phantoms, folders with classes, planes) is as ``data`` says.

    Raises:
        ValueError: unknown kind, or fewer subjects than asked for; no such fold of a split file;
            `prepared` still has something to be fitted.
        DataError: broken or missing files in a folder, all listed.
    """
    check_split_file(data)
    if prepared is not None and data.kind in _SCANS:
        check_fitted(prepared)
    if data.get("planes"):
        parts = plane_parts(data)
    elif data.kind == "brain":
        parts = _brain(data)
    elif data.kind == "lesions":
        parts = _lesions(data)
    elif data.kind in _IN_PARTS:
        parts = _IN_PARTS[data.kind](data)
    elif data.kind in _NUMBERED:
        make = _NUMBERED[data.kind]
        parts = numbered_parts(
            data, lambda size, start: make(size, tuple(data.shape), data.seed, start=start)
        )
    elif data.kind == "rotated_lesions":
        parts = _rotated_lesions(data)
    elif data.kind == "late_enhancement":
        parts = numbered_parts(
            data,
            lambda size, start: LateEnhancement(
                size, tuple(data.shape), data.seed, start, slices=data.get("slices") or 1
            ),
        )
    elif data.kind == "hemispheres":
        parts = _hemispheres(data, prepared)
    elif data.kind == "findings":
        parts = finding_parts(folder_source(data, prepared, any_labels=True), data)
    elif data.kind == "folder" and has_classes(data.folder):
        parts = shape_parts(data)
    elif data.kind == "folder":
        parts = folder_parts(folder_source(data, prepared), data)
    elif data.kind == "tfds":
        parts = tfds_parts(data, prepared)
    else:
        raise ValueError(f"unknown data.kind '{data.kind}': choose one of {', '.join(KINDS)}")
    if data.get("vendor_of"):
        parts = tuple(with_vendors(part, data.vendor_of, tuple(data.vendors)) for part in parts)
    if data.get("as_slices"):
        parts = (ImageSlices(part, empty=data.empty_slices) for part in parts)
    if data.get("stacks"):
        parts = (stack_samples(part, data) for part in parts)
    train, validation, test = parts
    if data.train_contrast:
        train = in_memory(SimulatedScans(train, data.train_contrast, data.seed))
        validation = in_memory(SimulatedScans(validation, data.train_contrast, data.seed + 1))
        test = in_memory(SimulatedScans(test, data.test_contrast, data.seed + 2))
    if not data.target_of:
        return Sources(train, validation, test, train.info)
    coarse = [
        relabel(part, data.target_of, data.target_names) for part in (train, validation, test)
    ]
    return Sources(train, *coarse[1:], coarse[0].info)


def _brain(data: Any) -> tuple[Source, Source, Source]:
    counts = (data.train, data.validation, data.test)
    starts = (0, data.train, data.train + data.validation)
    sites = (data.train_site, data.train_site, data.test_site)
    cohorts = (
        BrainCohort(
            size=size,
            shape=tuple(data.shape),
            seed=data.seed,
            contrasts=tuple(data.contrasts),
            classes=data.classes,
            lesions=tuple(data.lesions),
            site=site,
            start=start,
            skull=data.get("skull", True),
        )
        for size, start, site in zip(counts, starts, sites)
    )
    return tuple(in_memory(cohort) for cohort in cohorts)


def _hemispheres(data: Any, prepared: Preprocessing | None) -> tuple[Source, Source, Source]:
    """Slices of volumes, one hemisphere each, and how new volumes are cut likewise."""
    volumes = hemisphere_subjects(data)
    settings, label_map = prepared or preprocessing(volumes), None
    if data.folder:
        scans = folder_source(volumes, prepared, need_labels=True)
        subjects = folder_parts(scans, volumes)
        folder = subjects[0].source
        settings, label_map = folder.preprocessing, folder.label_map
    else:
        subjects = _brain(volumes)
        settings = dataclasses.replace(settings, spacing=subjects[0].info.spacing)
    finding = finding_of(subjects[0].info, hemisphere_settings(data))
    return hemisphere_parts(data, subjects, Origin(settings, finding, label_map))


def _lesions(data: Any) -> tuple[Source, Source, Source]:
    """Images that vary little for training, groups of ``data.test`` others that vary much."""
    groups = [(data.train, "train"), (data.validation, "validation")]
    groups += [(data.test, name) for name in data.test_shifts]
    sources, start = [], 0
    for size, name in groups:
        shift = Shift(**(data.test_shifts[name] if name in data.test_shifts else data.train_shift))
        sources.append(
            LesionImages(size, tuple(data.shape), data.seed, start=start, shift=shift, name=name)
        )
        start += size
    train, validation, *test = map(in_memory, sources)
    return train, validation, joined(test)


def _rotated_lesions(data: Any) -> tuple[Source, Source, Source]:
    """Volumes of ``data.train_pose`` for training, of ``data.test_pose`` for the others."""

    def make(size: int, start: int) -> Source:
        pose = data.train_pose if start < data.train else data.test_pose
        return RotatedLesions(size, tuple(data.shape), data.seed, start, pose)

    return numbered_parts(data, make)
