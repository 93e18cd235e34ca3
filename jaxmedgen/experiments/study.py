"""A study's plan and its results: which runs, where they lie, what the report is given."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from jaxmedgen import configuration
from jaxmedgen.data.build import Sources
from jaxmedgen.data.sources import Source
from jaxmedgen.data.splits import patient_of
from jaxmedgen.experiments.arms import Arm
from jaxmedgen.experiments.evaluation import CaseResult
from jaxmedgen.metrics.regions import Scoring, parse_regions
from jaxmedgen.metrics.segmentation import Absent
from jaxmedgen.report.results import AblationResults, Overlay, Run
from jaxmedgen.train.environment import describe_environment, write_json
from jaxmedgen.train.metrics_log import read_metrics
from jaxmedgen.train.trainable import NonFiniteError


class UnpreparedError(ValueError):
    """An arm can make no model of a run's labelled subjects; other draws of them may do."""


@dataclasses.dataclass(frozen=True)
class Study:
    """What is compared.

    Attributes:
        config: the segmenter's configuration; arms change its augmentation.
        sources: training pool, validation and test subjects.
        arms: by name; the first is the reference of the comparison.
        budgets: numbers of labelled training patients, each with all of its scans.
        seeds: number of repetitions, each with its own draw of subjects and initial weights.
        dataset: a phrase for the report.
        command: the command line that repeats the study.
        regions: unions of classes that test subjects are scored by, ``NAME=CLASS+CLASS,...``
            (`metrics.regions`); empty for the classes.
        absent: what a structure counts that neither reference nor prediction has.
    """

    config: ConfigDict
    sources: Sources
    arms: dict[str, Arm]
    budgets: tuple[int, ...]
    seeds: int
    dataset: str
    command: str = ""
    regions: str = ""
    absent: Absent = "excluded"

    def __post_init__(self) -> None:
        if not self.arms or not self.budgets or self.seeds < 1:
            raise ValueError("a study needs at least one arm, one budget and one seed")
        parts = (self.sources.train, self.sources.validation, self.sources.test)
        available, validation, test = map(count_patients, parts)
        if max(self.budgets) > available or min(self.budgets) < 1:
            raise ValueError(
                f"label budgets {self.budgets}: {available} training patients are left after "
                f"{validation} for validation and {test} for testing; lower --labelled, or "
                "config.data.validation and config.data.test"
            )
        if not len(self.sources.test):
            raise ValueError("there are no test subjects: set config.data.test")
        _ = self.scoring  # refuses regions of no class

    @property
    def scoring(self) -> Scoring:
        """How test subjects are scored."""
        names = self.sources.info.class_names
        return Scoring(parse_regions(self.regions, names) if self.regions else None, self.absent)

    @property
    def controls(self) -> dict[str, str]:
        """By arm, the arm that is the same training without what it adds, where there is one."""
        return {name: arm.control for name, arm in self.arms.items() if arm.control}

    def runs(self) -> list[tuple[str, int, int]]:
        """(arm, budget, seed) of every run: seeds first, so that an early stop is balanced."""
        return [
            (arm, budget, seed)
            for seed in range(self.seeds)
            for budget in self.budgets
            for arm in self.arms
        ]


def count_patients(source: Source) -> int:
    """How many patients the subjects of a source are of, as splits and draws count them."""
    return len({patient_of(name) for name in source.info.case_names})


def gather(study: Study, workdir: pathlib.Path) -> AblationResults:
    """The results of the finished runs and the failed ones, as the report takes them."""
    runs, overlays, samples, failures = [], [], {}, {}
    for arm, budget, seed in study.runs():
        path = scores_path(workdir, arm, budget, seed)
        failed = failure_path(workdir, arm, budget, seed)
        if not path.exists():
            if failed.exists():
                failures[run_name(arm, budget, seed)] = json.loads(failed.read_text())["error"]
            continue
        runs.append(_read_run(path, arm, budget, seed))
        with np.load(path.with_name("pictures.npz")) as pictures:
            overlays += _overlays(pictures, arm, budget, seed)
            if "sample_images" in pictures and arm not in samples:
                images = pictures["sample_images"].astype(np.float32)
                labels = pictures["sample_labels"].astype(np.int32)
                samples[arm] = tuple(zip(images, labels))
    info, train = study.sources.info, study.sources.train
    flat = configuration.flatten(study.config)
    return AblationResults(
        title="Which augmentation helps, and by how much?",
        dataset=study.dataset,
        class_names=info.class_names,
        spacing=info.spacing,
        arms={name: arm.description for name, arm in study.arms.items()},
        controls=study.controls,
        reference_arm=next(iter(study.arms)),
        budgets=tuple(sorted(study.budgets)),
        seeds=tuple(range(study.seeds)),
        runs=tuple(runs),
        overlays=tuple(overlays),
        samples=samples,
        failures=failures,
        settings={k: v for k, v in flat.items() if not k.startswith("augment.")}
        | {"regions": study.regions, "absent": study.absent},
        environment=describe_environment(),
        command=study.command,
        revision=str(describe_environment()["revision"]),
        total_seconds=float(sum(_wall_seconds(run) for run in runs)),
        unit="patient" if count_patients(train) < len(train) else "case",
    )


def case_pictures(scored: Sequence[CaseResult]) -> dict[str, np.ndarray]:
    """The best, the middle and the worst test case."""
    order = sorted(range(len(scored)), key=lambda i: np.nan_to_num(scored[i].dice))
    kept = sorted({order[0], order[len(order) // 2], order[-1]})
    chosen = [scored[i] for i in kept]
    arrays = {"cases": np.array([r.case for r in chosen])}
    arrays["dice"] = np.array([r.dice for r in chosen], np.float32)
    for i, result in enumerate(chosen):
        arrays[f"image_{i}"] = result.image[..., 0].astype(np.float16)
        arrays[f"label_{i}"] = result.label.astype(np.uint8)
        arrays[f"prediction_{i}"] = result.prediction.astype(np.uint8)
    return arrays


def _overlays(pictures, arm: str, budget: int, seed: int) -> list[Overlay]:
    return [
        Overlay(
            arm=arm,
            budget=budget,
            seed=seed,
            case=str(case),
            score=float(pictures["dice"][i]),
            image=pictures[f"image_{i}"].astype(np.float32),
            label=pictures[f"label_{i}"].astype(np.int32),
            prediction=pictures[f"prediction_{i}"].astype(np.int32),
        )
        for i, case in enumerate(pictures["cases"])
    ]


def _read_run(path: pathlib.Path, arm: str, budget: int, seed: int) -> Run:
    stored = json.loads(path.read_text())
    curve = []
    for line in read_metrics(path.with_name("metrics.jsonl")):
        name = {"train": "train_loss", "validation": "validation_dice"}.get(line["split"])
        value = line.get("loss" if line["split"] == "train" else "dice")
        if name and value is not None:
            curve.append({"step": line["step"], name: value})
    return Run(
        arm=arm,
        budget=budget,
        seed=seed,
        seconds=stored["seconds"],
        augmenter_seconds=stored["augmenter_seconds"],
        scores=stored["scores"],
        curve=tuple(curve),
        warnings=tuple(stored["warnings"]),
        training_dice=stored.get("training_dice"),
        ece=stored.get("ece"),
        wall_seconds=stored.get("wall_seconds"),
    )


def _wall_seconds(run: Run) -> float:
    """Runs of before it was measured: as if each had trained its own model."""
    both = run.seconds + run.augmenter_seconds
    return both if run.wall_seconds is None else run.wall_seconds


def scores_path(workdir: pathlib.Path, arm: str, budget: int, seed: int) -> pathlib.Path:
    """Where a run's scores lie; the file is written last, so it marks a finished run."""
    return workdir / "runs" / arm / f"n{budget}" / f"seed{seed}" / "scores.json"


def failure_path(workdir: pathlib.Path, arm: str, budget: int, seed: int) -> pathlib.Path:
    """Where it is written why a run failed; while the file is there it is not tried again."""
    return scores_path(workdir, arm, budget, seed).with_name("failed.json")


def record_failure(workdir: pathlib.Path, run: tuple[str, int, int], error: Exception) -> str:
    """Writes why a run failed; the next call skips it. Returns what is written."""
    arm, budget, seed = run
    path = failure_path(workdir, *run)
    text = f"{error}; to try again, delete {path.parent} and any model's folder that this names"
    kind = "unprepared" if isinstance(error, UnpreparedError) else "non-finite"
    write_json(path, {"arm": arm, "budget": budget, "seed": seed, "error": text, "kind": kind})
    return text


def failure_of(workdir: pathlib.Path, arm: str, budget: int, seed: int) -> type[Exception]:
    """The error that a failed run ended with; before they were told apart, it was non-finite."""
    stored = json.loads(failure_path(workdir, arm, budget, seed).read_text())
    return UnpreparedError if stored.get("kind") == "unprepared" else NonFiniteError


def run_name(arm: str, budget: int, seed: int) -> str:
    """A run as messages name it."""
    return f"{arm}, {budget} labelled, seed {seed}"


def models_path(workdir: pathlib.Path, budget: int, seed: int) -> pathlib.Path:
    """Where models lie that several arms of a run share."""
    return workdir / "models" / f"n{budget}" / f"seed{seed}"
