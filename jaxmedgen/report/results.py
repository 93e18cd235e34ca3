"""What an ablation found, as data: the report's input, written to and read from a folder.

``results.json`` holds everything but pictures, ``pictures.npz`` the arrays, so that the page can be
rebuilt, or other statistics computed, without training again.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Real

from jaxmedgen.data.splits import patient_of
from jaxmedgen.metrics import segmentation

FORMAT = 1
"""Version of the files; a reader refuses others."""

Sample = tuple[Real[np.ndarray, "*s"], Int[np.ndarray, "*s"]]
"""An augmented image and its label, as the network saw them."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One training: an arm with a label budget and a seed.

    Attributes:
        arm: name of the arm.
        budget: number of labelled training cases.
        seed: of initialisation, sampling and augmentation.
        seconds: wall time of training and evaluation, the augmenter's training not included.
        augmenter_seconds: wall time of training the arm's generative model; 0 for classical arms.
        scores: ``scores[case][class_name][metric]`` of the test cases.
        curve: records with ``step`` and any of ``train_loss``, ``validation_dice``.
        warnings: one line each, shown on the page.
        training_dice: mean Dice of the training cases; None where it was not measured.
        ece: expected calibration error of the test cases; None likewise.
        wall_seconds: that the run took in its study, which is less than both times above where an
            arm before it had trained the model; None where it was not measured.
    """

    arm: str
    budget: int
    seed: int
    seconds: float
    augmenter_seconds: float
    scores: Mapping[str, segmentation.Scores]
    curve: tuple[Mapping[str, float | int], ...] = ()
    warnings: tuple[str, ...] = ()
    training_dice: float | None = None
    ece: float | None = None
    wall_seconds: float | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Overlay:
    """One test case as pictures: image, reference label and prediction, RAS+ arrays ``[*s]``."""

    arm: str
    budget: int
    seed: int
    case: str
    score: float
    image: Real[np.ndarray, "*s"]
    label: Int[np.ndarray, "*s"]
    prediction: Int[np.ndarray, "*s"]


@dataclasses.dataclass(frozen=True, eq=False)
class AblationResults:
    """All runs of an ablation with what a reader needs to judge and repeat them.

    Attributes:
        title: heading of the page.
        dataset: name and size of the data, a phrase.
        class_names: one a label value, index 0 is the background.
        spacing: voxel size in mm.
        arms: arm names in display order, with a sentence each.
        reference_arm: the arm that the others are compared with.
        budgets: numbers of labelled training cases (`unit`), ascending.
        seeds: seeds of every arm and budget.
        runs: finished runs; missing ones are reported as such.
        overlays: test cases to show; the page picks worst and best among them.
        samples: augmented training samples by arm.
        settings: what was the same for all runs.
        environment: versions, device.
        command: command line that repeats the ablation.
        revision: version of the code, a commit.
        total_seconds: wall time of the whole ablation.
        budgets_of: budgets of the arms that do not run at all of them, by arm.
        controls: by arm, the arm that is the same training without what it adds (a model, the
            symmetry of a network).
        failures: why runs failed, by name of the run.
        unit: what budgets count: ``case``, or ``patient`` where one may have several scans.

    Raises:
        ValueError: the reference or a run's arm is not among the arms, or a run occurs twice.
    """

    title: str
    dataset: str
    class_names: tuple[str, ...]
    spacing: tuple[float, ...]
    arms: Mapping[str, str]
    reference_arm: str
    budgets: tuple[int, ...]
    seeds: tuple[int, ...]
    runs: tuple[Run, ...]
    overlays: tuple[Overlay, ...] = ()
    samples: Mapping[str, tuple[Sample, ...]] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    command: str = ""
    revision: str = ""
    total_seconds: float = 0.0
    budgets_of: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    controls: Mapping[str, str] = dataclasses.field(default_factory=dict)
    failures: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unit: str = "case"

    def __post_init__(self) -> None:
        if self.reference_arm not in self.arms:
            raise ValueError(f"reference_arm {self.reference_arm!r} is not in {list(self.arms)}")
        seen = set()
        for run in self.runs:
            if run.arm not in self.arms:
                raise ValueError(f"a run's arm {run.arm!r} is not in {list(self.arms)}")
            if run.budget not in self.budgets:
                raise ValueError(f"a run's budget {run.budget} is not in {self.budgets}")
            key = (run.arm, run.budget, run.seed)
            if key in seen:
                raise ValueError(f"run {key} (arm, budget, seed) occurs twice")
            seen.add(key)

    def select(self, arm: str, budget: int) -> tuple[Run, ...]:
        """Runs of one arm and budget, by seed."""
        found = [run for run in self.runs if run.arm == arm and run.budget == budget]
        return tuple(sorted(found, key=lambda run: run.seed))

    @property
    def cases(self) -> tuple[str, ...]:
        """Names of all test cases, in order of appearance."""
        return tuple(dict.fromkeys(case for run in self.runs for case in run.scores))


def score_matrix(
    results: AblationResults, arm: str, budget: int, metric: str = "dice", class_name: str = ""
) -> Float[np.ndarray, "seeds cases"]:
    """Scores of one arm and budget, one row a seed, one column a case of `results.cases`.

    The mean over foreground classes, or one class; NaN where a case is not scored.
    """
    matrix = np.full((len(results.select(arm, budget)), len(results.cases)), np.nan)
    for i, run in enumerate(results.select(arm, budget)):
        for j, case in enumerate(results.cases):
            scores = run.scores.get(case)
            if scores is None:
                continue
            if class_name:
                matrix[i, j] = scores.get(class_name, {}).get(metric, math.nan)
            else:
                matrix[i, j] = segmentation.foreground_mean(scores, metric)
    return matrix


def patient_matrix(
    results: AblationResults, arm: str, budget: int, metric: str = "dice", class_name: str = ""
) -> Float[np.ndarray, "seeds patients"]:
    """`score_matrix` with a column a patient, the mean of its cases: they are not independent.

    The patient of a case is that of splits, `data.splits.patient_of`.
    """
    scores = score_matrix(results, arm, budget, metric, class_name)
    patients = [patient_of(case) for case in results.cases]
    names = dict.fromkeys(patients)
    if len(names) == len(patients):
        return scores
    columns = [np.flatnonzero([p == name for p in patients]) for name in names]
    known = [np.isfinite(scores[:, c]).sum(1) for c in columns]
    sums = [np.nansum(scores[:, c], 1) for c in columns]
    return np.stack([np.where(n > 0, s / np.maximum(n, 1), np.nan) for s, n in zip(sums, known)], 1)


def save_results(results: AblationResults, folder: pathlib.Path | str) -> pathlib.Path:
    """Writes ``results.json`` and ``pictures.npz`` into `folder` (made if needed); returns it."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"format": FORMAT}
    for field in dataclasses.fields(results):
        if field.name not in ("runs", "overlays", "samples"):
            content[field.name] = getattr(results, field.name)
    content["arms"] = list(results.arms.items())  # A list keeps the display order.
    content["runs"] = [dataclasses.asdict(run) for run in results.runs]
    content["overlays"], arrays = [], {}
    for i, overlay in enumerate(results.overlays):
        names = ("arm", "budget", "seed", "case", "score")
        content["overlays"].append({name: getattr(overlay, name) for name in names})
        for name in ("image", "label", "prediction"):
            arrays[f"overlay/{i}/{name}"] = getattr(overlay, name)
    content["samples"] = {arm: len(pairs) for arm, pairs in results.samples.items()}
    for arm, pairs in results.samples.items():
        for i, (image, label) in enumerate(pairs):
            arrays[f"sample/{arm}/{i}/image"] = image
            arrays[f"sample/{arm}/{i}/label"] = label
    np.savez_compressed(folder / "pictures.npz", **arrays)
    text = json.dumps(_encode(content), indent=1, allow_nan=False, default=str)
    (folder / "results.json").write_text(text, encoding="utf-8")
    return folder


def load_results(folder: pathlib.Path | str) -> AblationResults:
    """Reads what `save_results` wrote.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the files have another format.
    """
    folder = pathlib.Path(folder)
    for name in ("results.json", "pictures.npz"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing: is this an ablation's folder?")
    content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    if content.pop("format", None) != FORMAT:
        raise ValueError(f"{folder / 'results.json'} is not of format {FORMAT}")
    with np.load(folder / "pictures.npz") as arrays:
        overlays = tuple(
            Overlay(
                arm=entry["arm"],
                budget=entry["budget"],
                seed=entry["seed"],
                case=entry["case"],
                score=float(entry["score"]),
                image=arrays[f"overlay/{i}/image"],
                label=arrays[f"overlay/{i}/label"],
                prediction=arrays[f"overlay/{i}/prediction"],
            )
            for i, entry in enumerate(content.pop("overlays"))
        )
        samples = {
            arm: tuple(
                (arrays[f"sample/{arm}/{i}/image"], arrays[f"sample/{arm}/{i}/label"])
                for i in range(count)
            )
            for arm, count in content.pop("samples").items()
        }
    runs = tuple(_decode_run(run) for run in content.pop("runs"))
    for name in ("class_names", "spacing", "budgets", "seeds"):
        content[name] = tuple(content[name])
    content["spacing"] = tuple(float(s) for s in content["spacing"])
    content["total_seconds"] = float(content["total_seconds"])
    content["arms"] = dict(content["arms"])
    own = content.get("budgets_of", {})
    content["budgets_of"] = {arm: tuple(budgets) for arm, budgets in own.items()}
    return AblationResults(**content, runs=runs, overlays=overlays, samples=samples)


def _decode_run(run: dict[str, Any]) -> Run:
    run["scores"] = {
        case: {
            name: {metric: float(value) for metric, value in metrics.items()}
            for name, metrics in classes.items()
        }
        for case, classes in run["scores"].items()
    }
    run["curve"] = tuple(
        {k: float(v) if isinstance(v, str) else v for k, v in r.items()} for r in run["curve"]
    )
    run["warnings"] = tuple(run["warnings"])
    for name in ("seconds", "augmenter_seconds"):
        run[name] = float(run[name])
    for name in ("training_dice", "ece", "wall_seconds"):
        run[name] = None if run.get(name) is None else float(run[name])
    return Run(**run)


def _encode(value: Any) -> Any:
    """JSON-ready: numpy scalars to Python's, NaN and infinities to strings that float() reads."""
    if isinstance(value, Mapping):
        return {str(k): _encode(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encode(v) for v in value]
    if isinstance(value, np.ndarray):
        return _encode(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
