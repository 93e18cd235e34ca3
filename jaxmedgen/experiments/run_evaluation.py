"""Scores of a trained run: what ``bin/evaluate`` does."""

import pathlib

import numpy as np
from rich.console import Console

from jaxmedgen import configuration
from jaxmedgen.data.build import Sources, build_sources
from jaxmedgen.data.grid_affines import affine_of
from jaxmedgen.data.hemispheres import hemisphere_settings, sick_slices
from jaxmedgen.data.label_images import LabelImages
from jaxmedgen.data.planes import PlaneFolder
from jaxmedgen.data.shape_parts import has_classes, shape_folder
from jaxmedgen.data.sources import ArraySource, Source, relabel
from jaxmedgen.data.splits import patient_of
from jaxmedgen.experiments.disentangling import evaluate_autoencoder
from jaxmedgen.experiments.evaluation import CaseResult, Scores, evaluate_source
from jaxmedgen.experiments.label_values import labelled_folder
from jaxmedgen.experiments.reconstruction.evaluation import evaluate_volumes
from jaxmedgen.experiments.remodelling.evaluation import evaluate_classes
from jaxmedgen.experiments.runs import TrainedRun, open_run, save_case
from jaxmedgen.experiments.shape_scores import evaluate_shapes
from jaxmedgen.experiments.training import predictor
from jaxmedgen.metrics import tables
from jaxmedgen.metrics.global_dice import GlobalDice
from jaxmedgen.metrics.regions import Scoring, parse_regions
from jaxmedgen.metrics.segmentation import Absent
from jaxmedgen.systems.base import (
    CanAlign,
    CanBuildVolume,
    CanClassify,
    CanPredict,
    System,
)
from jaxmedgen.systems.latent import CanGenerate
from jaxmedgen.train.metrics_log import MetricsLog


def evaluate_run(
    workdir: pathlib.Path,
    *,
    data: str | None,
    kind: str,
    regions: str = "",
    absent: Absent = "excluded",
    samples: int = 100,
    console: Console,
) -> list[CaseResult]:
    """Scores a run on its test subjects, or on another labelled folder.

    Of 2D images the global soft Dice (`metrics.global_dice`) goes with the cases' scores.

    Args:
        workdir: the run.
        data: labelled folder, whose labels are read as `label_values` says; None takes the run's
            own test subjects.
        kind: checkpoint, ``last`` or ``best``.
        regions: of segmenters: unions of classes to score instead of classes, `metrics.regions`.
        absent: what a structure counts that neither reference nor prediction has.
        samples: of models that register groups: draws of the importance-weighted bound.
        console: where to print.

    Writes ``evaluation.json``, ``evaluation.csv``, pictures in ``predictions/`` and, for the run's
    own test subjects, a ``test`` line in ``metrics.jsonl``.

    Raises:
        ValueError: the system cannot predict, there are no test subjects, or `samples` below 1.
        DataError: the folder has broken files, or labels that are no classes of the run.
    """
    if samples < 1:
        raise ValueError(f"samples={samples}: give at least one draw")
    run = open_run(workdir)
    if isinstance(run.system, CanAlign) and not isinstance(run.system, CanPredict):
        variables, step = run.variables(kind)
        seen, held = _own_sources(run).train, _evaluation_source(run, data)
        shown = "" if data else run.config.data.kind
        given = (run.system, variables, seen, held, workdir, console)
        evaluate_autoencoder(*given, kind=shown, step=step, samples=samples)
        return []
    if isinstance(run.system, CanBuildVolume):
        variables, step = run.variables(kind)
        size = int(run.config.data.shape[0])
        cases = PlaneFolder(pathlib.Path(data), size) if data else _evaluation_source(run, None)
        evaluate_volumes(run.system, variables, cases, workdir, console, step=step)
        return []
    if isinstance(run.system, CanGenerate) and not isinstance(run.system, CanPredict):
        variables, step = run.variables(kind)
        seen, held = _own_sources(run).train, _evaluation_source(run, data)
        evaluate_shapes(run.system, variables, seen, held, workdir, console, step)
        if isinstance(run.system, CanClassify):
            evaluate_classes(run.system, variables, held, workdir, console, step)
        return []
    if not isinstance(run.system, CanPredict):
        raise ValueError(f"{run.config.system} does not segment: it has nothing to evaluate")
    source = _evaluation_source(run, data)
    if len(source) == 0:
        raise ValueError("there are no test subjects: set config.data.test, or give --data")
    variables, step = run.variables(kind)
    predict = predictor(run.system, run.config)
    unions = parse_regions(regions, run.info.class_names) if regions else None
    results, cases, overlap = [], {}, GlobalDice(run.info.num_classes)

    def watch(probabilities, label):
        nonlocal overlap
        overlap = overlap.add(probabilities, label)

    images = len(run.info.spacing) == 2  # a case is small: sums over all of them tell more
    scoring = Scoring(unions, absent)
    scored = evaluate_source(
        predict, variables, source, watch=watch if images else None, scoring=scoring
    )
    for number, result in enumerate(scored):
        results.append(result)
        cases[result.case] = result.scores
        affine = affine_of(source, number)
        save_case(result, run.info.spacing, workdir / "predictions", affine)
    soft = {"global_soft_dice": overlap.value} if images else {}
    write_scores(
        cases, workdir / "evaluation", console, step=step, spacing=run.info.spacing, **soft
    )
    if images:
        console.print(f"global soft Dice of {len(cases)} images: {overlap.value:.4f}")
    if data is None:
        log = MetricsLog(workdir, rescored=step)
        dice = [r.dice for r in results]
        log.write(step, "test", {"dice": float(np.nanmean(dice)) if dice else float("nan"), **soft})
        log.close()
    return results


def write_scores(
    cases: dict[str, Scores], path: pathlib.Path, console: Console, **settings: object
) -> None:
    """Writes ``PATH.json`` and ``PATH.csv`` and prints the table."""
    tables.write_json(cases, path.with_suffix(".json"), settings)
    tables.write_cases_csv(cases, path.with_suffix(".csv"))
    console.print(tables.rich_table(tables.aggregate(cases)))


def as_seen(system: System, source: Source) -> Source:
    """Label maps as images, where the system was trained on them."""
    return LabelImages(source) if getattr(system, "images_of_labels", False) else source


def _own_sources(run: TrainedRun) -> Sources:
    """The run's own data, prepared as they were in training whatever the folder holds now."""
    return build_sources(run.config.data, (run.origin or run).preprocessing)


def _evaluation_source(run: TrainedRun, data: str | None) -> Source:
    if data is None:
        held = _own_sources(run).test
        leaked = sorted({patient_of(name) for name in held.info.case_names} & set(run.patients))
        if leaked:
            raise ValueError(
                f"{run.config.data.folder} has changed since the training: {', '.join(leaked[:3])} "
                "trained and would be tested now; put the files back, or give test scans by --data"
            )
        return as_seen(run.system, held)
    if has_classes(data):
        config = configuration.from_json(configuration.to_json(run.config))
        with config.unlocked():
            config.data.kind, config.data.folder = "folder", data
        return shape_folder(config.data, run.info)
    if run.origin is not None:
        volumes = labelled_folder(run, data, run.origin.preprocessing)
        found, info = sick_slices(volumes, hemisphere_settings(run.config.data))
        return ArraySource(found.present, info)
    source: Source = labelled_folder(run, data, run.preprocessing)
    if run.config.data.target_of:
        source = relabel(source, run.config.data.target_of, run.config.data.target_names)
    if source.info.num_classes != run.info.num_classes:
        raise ValueError(
            f"{data} has {source.info.num_classes} classes, the run was trained on "
            f"{run.info.num_classes}: give --config.data.label_map at training"
        )
    channels = len(source.info.channel_names), len(run.info.channel_names)
    if channels[0] != channels[1] and not getattr(run.system, "images_of_labels", False):
        raise ValueError(
            f"{data} has {channels[0]} channels, the run was trained on {channels[1]} "
            f"({', '.join(run.info.channel_names)}): give scans with these"
        )
    return as_seen(run.system, source)
