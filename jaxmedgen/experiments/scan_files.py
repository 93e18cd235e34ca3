"""Scans to predict and their reference labels in files, read and refused as training does."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import nibabel as nib
import numpy as np
from jaxtyping import Float, Int

from jaxmedgen.data import untrusted
from jaxmedgen.data.checks import grid_difference, read_case
from jaxmedgen.data.layouts import Case, discover
from jaxmedgen.data.nifti import Volume, is_volume_file, read_volume, stem
from jaxmedgen.data.untrusted import DataError
from jaxmedgen.experiments.label_values import known_values, refuse_unknown
from jaxmedgen.experiments.runs import TrainedRun


def find_cases(source: pathlib.Path, channels: int) -> list[Case]:
    """The scans of a file or folder, without labels.

    Args:
        source: a NIfTI file, or a folder in a layout that training reads. Channels are files
            (``NAME_0000``, ...) or lie along a fourth axis.
        channels: that a scan must have.

    Raises:
        DataError: nothing there; incomplete or ambiguous scans, all listed; another number of
            channels.
    """
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    if source.is_file():
        number = _channels_in(source)
        if number == channels:
            return [Case(stem(source), (source,), None)]
        if number == 1:
            raise DataError(
                f"{source} is one file but the run has {channels} channels: give a folder with "
                "NAME_0000.nii.gz, NAME_0001.nii.gz, ..."
            )
        raise DataError(_volumes_told(source, number, channels))
    layout = discover(source, contents="images", require_labels=False)
    for case in layout.cases:
        inside = [_channels_in(path) for path in case.images]
        if sum(inside) == channels:
            continue
        if len(case.images) == 1 and inside[0] > 1:
            raise DataError(_volumes_told(case.images[0], inside[0], channels))
        raise DataError(
            f"{source}: {case.name}: {sum(inside)} channel(s) where the run has {channels}. Four "
            "digits behind a last underscore number the channels of one scan (NAME_0000.nii.gz): "
            "rename files that are scans of their own"
        )
    if layout.problems:
        told = f"{source}: {len(layout.problems)} problems; correct or remove these files:"
        raise DataError("\n  ".join([told, *map(str, layout.problems)]))
    if not layout.cases:
        raise DataError(f"{source}: no NIfTI files")
    return [dataclasses.replace(case, label=None) for case in layout.cases]


def read_scan(
    run: TrainedRun, case: Case, *, of_labels: bool
) -> tuple[Float[np.ndarray, "*s c"], Volume]:
    """A scan, RAS+ and channels last, and the volume whose grid it has.

    Args:
        run: what it is for.
        case: its files.
        of_labels: the scan is a label map, whose values become one channel.

    Raises:
        DataError: files that cannot be used, or are not of one grid; labels that are no classes.
    """
    if of_labels:
        volume = read_volume(case.images[0], label=True)
        refuse_unknown(volume.array, known_values(run), volume.path)
        return volume.array[..., None].astype(np.float32), volume
    read = read_case(case)
    return read.image, read.reference


def find_references(
    reference: pathlib.Path | None, cases: Sequence[Case]
) -> Mapping[str, pathlib.Path]:
    """Label files by case name; cases without one are left out.

    Args:
        reference: a label file of a single case, a folder of files of the cases' names, or None.
        cases: what is predicted.

    Raises:
        DataError: there is no such file, or none of a case; one file for several cases, or several
            for one.
    """
    if reference is None:
        return {}
    if not reference.exists():
        raise DataError(f"{reference}: no such file or folder; check --reference")
    if reference.is_file():
        if len(cases) > 1:
            raise DataError(
                f"{reference} is one file for {len(cases)} scans: give a folder with a label file "
                "of each scan's name"
            )
        return {cases[0].name: reference}
    files: dict[str, pathlib.Path] = {}
    for path in sorted(reference.iterdir()):
        if is_volume_file(path) and files.setdefault(stem(path), path) != path:
            raise DataError(f"{path}: another file has the same name but for its ending; keep one")
    found = {case.name: files[case.name] for case in cases if case.name in files}
    if not found:
        raise DataError(
            f"{reference}: has no label of the {len(cases)} scans: name it like its scan, "
            f"{cases[0].name}.nii.gz"
        )
    return found


def read_reference(
    run: TrainedRun, path: pathlib.Path, scan: Volume, *, trusted: bool = True
) -> Int[np.ndarray, "*s"]:
    """Classes of a reference label map on the scan's grid.

    Args:
        run: whose classes they are.
        path: of the label file.
        scan: the scan as its file says it lies.
        trusted: False where headers are known to be wrong; then millimetres are not compared.

    Raises:
        DataError: the file lies elsewhere than the scan, or has values that are no classes.
    """
    truth = read_volume(path, label=True)
    difference = grid_difference(scan, truth)
    if not trusted and truth.spatial_shape == scan.spatial_shape:
        axes = [nib.aff2axcodes(volume.file_affine) for volume in (scan, truth)]
        difference = None if axes[0] == axes[1] else f"axes run to {axes[1]}, the scan's {axes[0]}"
    if difference:
        raise DataError(f"{path}: {difference}")
    refuse_unknown(truth.array, known_values(run), path)
    return run.remap(truth.array)


def channels_of(volume: Volume) -> int:
    """Channels along the fourth axis of a file; 1 without one."""
    inside = volume.array.ndim > len(volume.spacing)
    return volume.array.shape[-1] if inside else 1


def _channels_in(path: pathlib.Path) -> int:
    """`channels_of` from the header."""
    shape = untrusted.checked_shape(path, untrusted.open_image(path))
    return shape[3] if len(shape) > 3 else 1


def _volumes_told(path: pathlib.Path, number: int, channels: int) -> str:
    return (
        f"{path}: has {number} volumes along its fourth axis, the run has {channels} channel(s): "
        "give those that it was trained on"
    )
