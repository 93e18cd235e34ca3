"""A study's plan and its results: which runs, where they lie, what the report is given."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from jaxmedgen import configuration
from jaxmedgen.data.build import Sources
from jaxmedgen.experiments.arms import Arm
from jaxmedgen.experiments.evaluation import CaseResult
from jaxmedgen.report.results import AblationResults, Overlay, Run
from jaxmedgen.train.environment import describe_environment
from jaxmedgen.train.metrics_log import read_metrics


@dataclasses.dataclass(frozen=True)
class Study:
    """What is compared.

    Attributes:
        config: the segmenter's configuration; arms change its augmentation.
        sources: training pool, validation and test subjects.
        arms: by name; the first is the reference of the comparison.
        budgets: numbers of labelled training subjects.
        seeds: number of repetitions, each with its own draw of subjects and initial weights.
        dataset: a phrase for the report.
        command: the command line that repeats the study.
    """

    config: ConfigDict
    sources: Sources
    arms: dict[str, Arm]
    budgets: tuple[int, ...]
    seeds: int
    dataset: str
    command: str = ""

    def __post_init__(self) -> None:
        if not self.arms or not self.budgets or self.seeds < 1:
            raise ValueError("a study needs at least one arm, one budget and one seed")
        available = len(self.sources.train)
        if max(self.budgets) > available or min(self.budgets) < 1:
            raise ValueError(
                f"label budgets {self.budgets}: {available} training subjects are left after "
                f"{len(self.sources.validation)} for validation and {len(self.sources.test)} for "
                "testing; lower --labelled, or config.data.validation and config.data.test"
            )
        if not len(self.sources.test):
            raise ValueError("there are no test subjects: set config.data.test")

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
    info = study.sources.info
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
        settings={k: v for k, v in flat.items() if not k.startswith("augment.")},
        environment=describe_environment(),
        command=study.command,
        revision=str(describe_environment()["revision"]),
        total_seconds=float(sum(_wall_seconds(run) for run in runs)),
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


def run_name(arm: str, budget: int, seed: int) -> str:
    """A run as messages name it."""
    return f"{arm}, {budget} labelled, seed {seed}"


def models_path(workdir: pathlib.Path, budget: int, seed: int) -> pathlib.Path:
    """Where models lie that several arms of a run share."""
    return workdir / "models" / f"n{budget}" / f"seed{seed}"
