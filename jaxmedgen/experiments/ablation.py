"""The main job: arms x label budgets x seeds on paired test cases, finished runs skipped.

Every run trains the same segmenter for the same number of steps on a nested draw of labelled
subjects (the subjects of a smaller budget are among those of a larger one, and all arms of a seed
see the same ones) and is scored on the same test subjects with its last weights: no run is chosen
by its test or validation score. Validation subjects only draw the learning curves.
"""

import dataclasses
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxmedgen import configuration
from jaxmedgen.configuration import ConfigError
from jaxmedgen.data.build import Sources
from jaxmedgen.data.pipeline import training_stream
from jaxmedgen.data.sources import ImagesOnly, Source, in_memory, relabel, subset
from jaxmedgen.data.splits import first_patients
from jaxmedgen.experiments.arm_checks import check_arms
from jaxmedgen.experiments.arms import Arm, ArmInputs, ArmTraining, prepare_arm
from jaxmedgen.experiments.evaluation import evaluate_source
from jaxmedgen.experiments.fit_quality import fit_quality
from jaxmedgen.experiments.model_training import WALL, counted_seconds, model_seconds
from jaxmedgen.experiments.study import (
    Study,
    UnpreparedError,
    case_pictures,
    failure_of,
    failure_path,
    gather,
    models_path,
    record_failure,
    run_name,
    scores_path,
)
from jaxmedgen.experiments.study_identity import claim_content, claim_study
from jaxmedgen.experiments.training import predictor, train
from jaxmedgen.report.results import AblationResults
from jaxmedgen.systems.base import build_system, evaluation_variables
from jaxmedgen.train.environment import write_json
from jaxmedgen.train.interrupt import Interrupted, StopSignal
from jaxmedgen.train.progress import Progress
from jaxmedgen.train.state import sample_keys
from jaxmedgen.train.trainable import NonFiniteError

_SAMPLES = 4
"""Augmented training samples kept a run, for the report."""


def run_study(
    study: Study,
    workdir: pathlib.Path,
    *,
    stop: StopSignal | None = None,
    progress: Progress | None = None,
    cache: pathlib.Path | None = None,
    go_on: bool = True,
) -> AblationResults:
    """Trains and scores all runs that are not finished yet and gathers the results.

    A run of which a training (the arm's model or the segmenter) becomes non-finite has failed, and
    so has one whose labelled subjects the arm can make no model of: ``failed.json`` in its folder
    says why, the others go on, and it is not tried again while the file is there.

    Args:
        study: what is compared.
        workdir: holds ``study.json``, ``runs/ARM/nBUDGET/seedSEED/``, ``models/`` that arms share,
            and the compilation cache.
        stop: an active signal catcher, or None for one of its own.
        progress: where to show progress.
        cache: folder of compiled programs, which several studies may share; ``workdir/cache`` by
            default.
        go_on: False ends the study at the first run that fails.

    Raises:
        ConfigError: `workdir` belongs to a study with other settings or data.
        ValueError: an arm that does not fit the data or the settings, before anything is trained.
        Interrupted: a signal came; run again to go on.
        NonFiniteError, UnpreparedError: all runs of the reference arm failed, or one of any arm
            without `go_on`.
    """
    if stop is None:
        with StopSignal() as stop:
            return run_study(study, workdir, stop=stop, progress=progress, cache=cache, go_on=go_on)
    check_arms(study)
    claim_study(study, workdir)
    runs = study.runs()
    sources = dataclasses.replace(
        study.sources,
        validation=in_memory(study.sources.validation),
        test=in_memory(study.sources.test),
    )
    claim_content(workdir, "validation", sources.validation)
    claim_content(workdir, "test", sources.test)
    study = dataclasses.replace(study, sources=sources)
    with Progress() if progress is None else progress as shown:
        left = [run for run in runs if not scores_path(workdir, *run).exists()]
        if len(left) < len(runs):
            shown.say(f"{len(runs) - len(left)} of {len(runs)} runs are finished already")
        failed = [run for run in left if go_on and failure_path(workdir, *run).exists()]
        for run in failed:
            path = failure_path(workdir, *run)
            shown.say(f"{run_name(*run)} failed before: {path} says why and how to try again")
        left = [run for run in left if run not in failed]
        started = time.perf_counter()
        for number, run in enumerate(left):
            shown.say(
                _headline(run, len(runs) - len(left) + number + 1, len(runs), number, started)
            )
            try:
                _execute(study, workdir, *run, stop=stop, progress=shown, cache=cache)
            except (NonFiniteError, UnpreparedError) as error:
                if not go_on:
                    raise type(error)(f"{run_name(*run)}: {error}") from error
                shown.say(f"{run_name(*run)} failed: {record_failure(workdir, run, error)}")
            if stop and number + 1 < len(left):
                raise Interrupted(
                    f"{stop.received} after {number + 1} runs: saved in {workdir}; "
                    "run the same command again to go on"
                )
    results = gather(study, workdir)
    reference = results.reference_arm
    lost = [run_name(*run) for run in runs if run[0] == reference]
    if all(name in results.failures for name in lost):
        raise failure_of(workdir, *next(run for run in runs if run[0] == reference))(
            f"all {len(lost)} runs of the reference arm '{reference}' failed, so there is nothing "
            f"to compare with; {lost[0]}: {results.failures[lost[0]]}"
        )
    return results


def _execute(
    study: Study,
    workdir: pathlib.Path,
    arm: str,
    budget: int,
    seed: int,
    *,
    stop: StopSignal,
    progress: Progress,
    cache: pathlib.Path | None,
) -> None:
    """One run: prepare the arm, train, score, write ``scores.json`` last of all.

    Raises:
        UnpreparedError: the arm's model cannot be made of these subjects.
    """
    folder = scores_path(workdir, arm, budget, seed).parent
    folder.mkdir(parents=True, exist_ok=True)
    chosen = labelled_subjects(study.sources, budget, seed)
    # Counted over all calls: a run that was stopped has cost what it took before, too.
    with counted_seconds(folder, WALL):
        labelled = in_memory(subset(study.sources.train, chosen))
        claim_content(workdir, "train", labelled)
        config = configuration.from_json(configuration.to_json(study.config))
        with config.unlocked():
            config.seed = seed
        shared = models_path(workdir, budget, seed)
        unlabelled = None
        if config.get("model_unlabelled", False):
            others = [i for i in range(len(study.sources.train)) if i not in chosen]
            unlabelled = ImagesOnly(subset(study.sources.train, others)) if others else None
        inputs = ArmInputs(
            *(config, labelled, folder / "augmenter", seed, shared, progress), unlabelled=unlabelled
        )
        training, augmenter_seconds = _prepared(study.arms[arm], inputs)
        with counted_seconds(folder):
            training.write_into(config)
            shown = labelled if training.source is None else training.source
            sources = dataclasses.replace(study.sources, train=shown)
            system = build_system(config, sources.info)
            if training.augmentation is not None:
                system = dataclasses.replace(system, augmentation=training.augmentation)
            result = train(
                config,
                sources,
                system,
                folder,
                stop=stop,
                progress=progress,
                cache=cache or workdir / "cache",
                name=run_name(arm, budget, seed),
            )
            predict, variables = predictor(system, config), evaluation_variables(result.state)
            test, scoring = sources.test, study.scoring
            scored = list(evaluate_source(predict, variables, test, stop, scoring=scoring))
            fit = {}
            if config.get("measure_fit", False):
                alike = _scored_alike(labelled, config)
                found = fit_quality(predict, variables, alike, test, stop)
                fit = dataclasses.asdict(found)
        kept = seed == 0 and budget == max(study.budgets)
        samples = _samples(system, config, shown, kept=kept)
        np.savez_compressed(folder / "pictures.npz", **case_pictures(scored), **samples)
    write_json(
        folder / "scores.json",
        {
            "arm": arm,
            "budget": budget,
            "seed": seed,
            "labelled": [study.sources.train.info.case_names[i] for i in chosen],
            "seconds": model_seconds(folder),
            "augmenter_seconds": augmenter_seconds,
            "wall_seconds": model_seconds(folder, WALL),
            "warnings": training.warnings,
            "scores": {r.case: r.scores for r in scored},
            **fit,
        },
    )
    failure_path(workdir, arm, budget, seed).unlink(missing_ok=True)


def _prepared(arm: Arm, inputs: ArmInputs) -> tuple[ArmTraining, float]:
    """`prepare_arm`, whose errors tell what is of a draw of subjects from what is of all runs."""
    try:
        return prepare_arm(arm, inputs)
    except ConfigError:  # a folder of other settings: for the user, not for the next run
        raise
    except ValueError as error:
        if arm.quick:  # trains nothing, so that it is no matter of the subjects
            raise
        raise UnpreparedError(str(error)) from error


def _scored_alike(labelled: Source, config: ConfigDict) -> Source:
    """Training subjects with the classes that are predicted."""
    data = config.data
    return relabel(labelled, data.target_of, data.target_names) if data.target_of else labelled


def labelled_subjects(sources: Sources, budget: int, seed: int) -> tuple[int, ...]:
    """Numbers of the labelled training subjects: the same for all arms, nested over budgets."""
    names = sources.train.info.case_names
    number = {name: i for i, name in enumerate(names)}
    return tuple(number[name] for name in first_patients(names, budget, seed=seed))


def _samples(system, config: ConfigDict, shown: Source, *, kept: bool) -> dict[str, np.ndarray]:
    """What the network is shown in training, from one run an arm: augmented samples."""
    if not kept:
        return {}
    stream = training_stream(
        shown,
        batch_size=_SAMPLES,
        seed=config.seed,
        patch_size=tuple(config.patch_size) or None,
        num_threads=0,
    )
    batch = jax.tree.map(jnp.asarray, next(stream))
    keys = sample_keys(jax.random.key(config.seed), 0, batch["index"])
    prepared = jax.jit(system.prepare)(batch, keys)
    return {
        "sample_images": np.asarray(prepared["image"])[..., 0].astype(np.float16),
        "sample_labels": np.asarray(prepared["label"]).astype(np.uint8),
    }


def _headline(run: tuple[str, int, int], number: int, total: int, done: int, start: float) -> str:
    left = ""
    if done:
        minutes = (time.perf_counter() - start) / done * (total - number + 1) / 60
        left = f", about {minutes:.0f} min left"
    return f"run {number}/{total}: {run_name(*run)}{left}"
