"""Scans in, label maps out: each on the grid, orientation and affine of its own scan."""

import pathlib

import numpy as np
from nibabel import orientations
from rich.console import Console

from jaxmedgen.data.layouts import Case
from jaxmedgen.data.nifti import Volume, read_volume, stem, write_like
from jaxmedgen.data.postprocess import fill_holes, keep_largest_component
from jaxmedgen.experiments.evaluation import Flips, Scores
from jaxmedgen.experiments.label_values import file_values
from jaxmedgen.experiments.reconstruction.files import reconstruct_files
from jaxmedgen.experiments.remodelling.files import classify_files
from jaxmedgen.experiments.run_evaluation import write_scores
from jaxmedgen.experiments.runs import open_run
from jaxmedgen.experiments.scan_files import (
    channels_of,
    find_cases,
    find_references,
    read_reference,
    read_scan,
)
from jaxmedgen.experiments.training import predictor
from jaxmedgen.experiments.volume_slices import segment, translate
from jaxmedgen.metrics.regions import parse_regions
from jaxmedgen.metrics.segmentation import Absent, evaluate_case
from jaxmedgen.report.pictures import montage, save_png, three_planes
from jaxmedgen.systems.base import CanBuildVolume, CanClassify, CanPredict
from jaxmedgen.systems.latent import CanGenerate
from jaxmedgen.train.environment import write_json


def predict_files(
    workdir: pathlib.Path,
    source: pathlib.Path,
    output: pathlib.Path,
    *,
    reference: pathlib.Path | None = None,
    kind: str = "last",
    flips: Flips = "",
    orientation: str | None = None,
    largest: bool = False,
    holes: bool = False,
    target: str = "",
    regions: str = "",
    absent: Absent = "excluded",
    console: Console,
) -> dict[str, Scores]:
    """Segments a scan or a folder of scans, translates them, or builds volumes from planes.

    Models of 2D images take volumes too, slice by slice (`volume_slices`).

    What a model of volumes from planes reads and writes is in `reconstruction.files`, a classifier
    of shapes in `remodelling.files`. An atlas is registered on its template's grid, around which
    everything is background; one of label maps reads label maps.

    Args:
        workdir: a trained run.
        source: a NIfTI file, or a folder of them (channels as ``NAME_0000``, ... or along a fourth
            axis).
        output: folder for ``NAME.nii.gz`` with the numbers of the training files
            (`label_values.file_values`), ``NAME.png``, ``labels.json`` (number to class name).
        reference: label file, or folder of label files of the same names, to score with; its
            values go through the run's label map. Scans without one are named.
        kind: checkpoint, ``last`` or ``best``.
        flips: average ``logits`` or ``probabilities`` over mirroring left-right.
        orientation: what the files' voxel axes really are (``LIA``), where headers are wrong.
        largest: keep the largest connected foreground only; volumes from planes always do.
        holes: fill background that foreground encloses.
        target: writes the scans as a translating system shows them in this domain instead.
        regions: unions of classes to score instead of classes, see `metrics.regions`.
        absent: what a structure counts that neither reference nor prediction has.
        console: where to print.

    Returns:
        Scores by case, where there is a reference.

    Raises:
        DataError: a file is missing, broken or not on the scan's grid, channels do not match, or
            labels are no classes of the run.
        ValueError: the run's system does not segment, or not translate.
    """
    run = open_run(workdir)
    if isinstance(run.system, CanBuildVolume):
        reconstruct_files(
            run, source, output, reference=reference, kind=kind, holes=holes, console=console
        )
        return {}
    of_shapes = isinstance(run.system, CanClassify) and isinstance(run.system, CanGenerate)
    if of_shapes and not isinstance(run.system, CanPredict):
        classify_files(run, source, output, kind=kind, console=console)
        return {}
    if not isinstance(run.system, CanPredict) and not target:
        raise ValueError(f"{run.config.system} does not segment")
    unions = parse_regions(regions, run.info.class_names) if regions else None
    cases = find_cases(source, max(len(run.info.channel_names), 1))
    references = find_references(None if target else reference, cases)
    variables, step = run.variables(kind)
    predict = None if target else predictor(run.system, run.config, run.info.class_names)
    of_labels = getattr(run.system, "images_of_labels", False)
    output.mkdir(parents=True, exist_ok=True)
    values = file_values(run)
    if not target:
        names = dict(zip(values.tolist(), run.info.class_names))
        write_json(output / "labels.json", names)
    scores: dict[str, Scores] = {}
    for number, case in enumerate(cases, start=1):
        image, volume = read_scan(run, case, of_labels=of_labels)
        spacing = volume.spacing
        turn = true_orientation(volume, orientation) if orientation else None
        if turn is not None:
            image = orientations.apply_orientation(image, turn)
            spacing = tuple(spacing[int(j)] for j in np.argsort(turn[:, 0]))
        if target:
            made = translate(run, variables, image, tuple(spacing), target)
            pictures = [three_planes(x, spacing=spacing) for x in (image, made)]
            save_png(output / f"{case.name}.png", montage(pictures, columns=2))
            if turn is not None:
                made = orientations.apply_orientation(made, _back(turn))
            _write_channels(output, case, made)
            console.print(f"{number}/{len(cases)}  {output / case.name}", highlight=False)
            continue
        label = segment(run, predict, variables, image, tuple(spacing), flips=flips)
        if largest:
            label = keep_largest_component(label)
        if holes:
            label = fill_holes(label)
        save_png(output / f"{case.name}.png", three_planes(image, label, spacing=spacing))
        if turn is not None:
            label = orientations.apply_orientation(label, _back(turn))
        path = output / f"{case.name}.nii.gz"
        write_like(path, values[label], volume)
        console.print(f"{number}/{len(cases)}  {path}", highlight=False)
        if case.name in references:
            trusted = orientation is None
            truth = read_reference(run, references[case.name], volume, trusted=trusted)
            scores[case.name] = evaluate_case(
                label,
                truth,
                run.info.class_names,
                volume.spacing,
                regions=unions,
                absent=absent,
            )
    if scores:
        write_scores(scores, output / "evaluation", console, step=step)
        missing = [case.name for case in cases if case.name not in references]
        if missing:
            told = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            console.print(
                f"{len(missing)} of {len(cases)} scans have no reference in {reference} and are "
                f"not scored: {told}",
                highlight=False,
            )
    return scores


def true_orientation(volume: Volume, codes: str) -> np.ndarray:
    """The turn to RAS+ of ``volume.array`` if its file's voxel axes really run to `codes`.

    Args:
        volume: turned to RAS+ by what its header says.
        codes: three letters of R/L, A/P, S/I, one an axis of the file.

    Raises:
        ValueError: not such letters, or the file is a single slice.

    Returns:
        An orientation as nibabel has it: axis and flip, one row an axis.
    """
    codes = codes.upper()
    pairs = [next((p for p in ("LR", "PA", "IS") if c in p), "") for c in codes]
    if len(codes) != 3 or sorted(pairs) != ["IS", "LR", "PA"] or len(volume.spacing) != 3:
        raise ValueError(
            f"orientation '{codes}' of {volume.path}: give three letters such as LIA, one an axis "
            "of a 3D file: right or left, anterior or posterior, superior or inferior"
        )
    header = orientations.io_orientation(volume.file_affine)
    real = orientations.axcodes2ornt(codes)
    turned = np.empty((3, 2))
    for (axis, flip), (real_axis, real_flip) in zip(header, real):
        turned[int(axis)] = real_axis, real_flip * flip
    return turned


def _back(turn: np.ndarray) -> np.ndarray:
    return orientations.ornt_transform(orientations.axcodes2ornt("RAS"), turn)


def _write_channels(output: pathlib.Path, case: Case, made: np.ndarray) -> None:
    """Each file of a case again, with the channels that it had: ``made [*s, c]`` on its grid."""
    first = 0
    for path in case.images:
        volume = read_volume(path)
        count = channels_of(volume)
        part = made[..., first : first + count]
        has_axis = volume.array.ndim > len(volume.spacing)
        write_like(output / f"{stem(path)}.nii.gz", part if has_axis else part[..., 0], volume)
        first += count
