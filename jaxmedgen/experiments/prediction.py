"""Scans in, label maps out: each on the grid, orientation and affine of its own scan."""

import pathlib

import numpy as np
from nibabel import orientations
from rich.console import Console

from jaxmedgen.data.layouts import Case, discover
from jaxmedgen.data.nifti import Volume, read_volume, stem, write_like
from jaxmedgen.data.postprocess import fill_holes, keep_largest_component
from jaxmedgen.data.untrusted import DataError
from jaxmedgen.experiments.evaluation import Flips, Scores
from jaxmedgen.experiments.reconstruction.files import reconstruct_files
from jaxmedgen.experiments.remodelling.files import classify_files
from jaxmedgen.experiments.run_evaluation import write_scores
from jaxmedgen.experiments.runs import TrainedRun, open_run
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
        source: a NIfTI file, or a folder of them (channels as ``NAME_0000``, ...).
        output: folder for ``NAME.nii.gz``, ``NAME.png``, ``labels.json``.
        reference: label file, or folder of label files of the same names, to score with; its
            values go through the run's label map.
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
        DataError: a file is missing or broken, or channels do not match.
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
    cases = _cases(source, max(len(run.info.channel_names), 1))
    variables, step = run.variables(kind)
    predict = None if target else predictor(run.system, run.config, run.info.class_names)
    of_labels = getattr(run.system, "images_of_labels", False)
    output.mkdir(parents=True, exist_ok=True)
    if not target:
        write_json(output / "labels.json", dict(enumerate(run.info.class_names)))
    scores: dict[str, Scores] = {}
    for number, case in enumerate(cases, start=1):
        volumes = [read_volume(path, label=of_labels) for path in case.images]
        image, spacing = _channels(case, volumes), volumes[0].spacing
        turn = true_orientation(volumes[0], orientation) if orientation else None
        if turn is not None:
            image = orientations.apply_orientation(image, turn)
            spacing = tuple(spacing[int(j)] for j in np.argsort(turn[:, 0]))
        if target:
            made = translate(run, variables, image, tuple(spacing), target)
            pictures = [three_planes(x, spacing=spacing) for x in (image, made)]
            save_png(output / f"{case.name}.png", montage(pictures, columns=2))
            for path, volume, channel in zip(case.images, volumes, np.moveaxis(made, -1, 0)):
                if turn is not None:
                    channel = orientations.apply_orientation(channel, _back(turn))
                write_like(output / f"{stem(path)}.nii.gz", channel, volume)
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
        write_like(path, label.astype(np.uint8), volumes[0])
        console.print(f"{number}/{len(cases)}  {path}", highlight=False)
        truth = _reference(run, reference, case.name)
        if truth is not None:
            if truth.shape != label.shape:
                raise DataError(
                    f"{case.name}: reference of shape {truth.shape} is not on the scan's grid "
                    f"{label.shape}"
                )
            scores[case.name] = evaluate_case(
                label,
                truth,
                run.info.class_names,
                volumes[0].spacing,
                regions=unions,
                absent=absent,
            )
    if scores:
        write_scores(scores, output / "evaluation", console, step=step)
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


def _cases(source: pathlib.Path, channels: int) -> list[Case]:
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    if source.is_file():
        if channels > 1:
            raise DataError(
                f"{source} is one file but the run has {channels} channels: give a folder with "
                "NAME_0000.nii.gz, NAME_0001.nii.gz, ..."
            )
        return [Case(stem(source), (source,), None)]
    layout = discover(source, contents="images", require_labels=False)
    bad = [c.name for c in layout.cases if len(c.images) != channels]
    if bad:
        first = next(c for c in layout.cases if c.name == bad[0])
        raise DataError(
            f"{source}: {', '.join(bad[:5])}: {len(first.images)} channel(s) where the run has "
            f"{channels}. Four digits behind a last underscore number the channels of one scan "
            "(NAME_0000.nii.gz): rename files that are scans of their own"
        )
    if not layout.cases:
        problems = "; ".join(str(p) for p in layout.problems[:5])
        raise DataError(f"{source}: no NIfTI files{': ' + problems if problems else ''}")
    return list(layout.cases)


def _channels(case: Case, volumes: list[Volume]) -> np.ndarray:
    first = volumes[0]
    arrays = []
    for path, volume in zip(case.images, volumes):
        if volume.array.ndim != len(volume.spacing):
            raise DataError(f"{path}: has {volume.array.shape[-1]} volumes; give one of them")
        if volume.array.shape != first.array.shape or not np.allclose(
            volume.affine, first.affine, atol=1e-3
        ):
            raise DataError(f"{path} is not on the grid of {case.images[0]}: resample it first")
        arrays.append(volume.array.astype(np.float32))
    return np.stack(arrays, axis=-1)


def _reference(run: TrainedRun, reference: pathlib.Path | None, name: str) -> np.ndarray | None:
    if reference is None:
        return None
    path = reference
    if reference.is_dir():
        found = [p for p in sorted(reference.iterdir()) if stem(p) == name]
        if not found:
            return None
        path = found[0]
    label = read_volume(path, label=True).array
    return run.remap(label)
