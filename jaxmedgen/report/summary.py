"""The ablation's answer as data: means, intervals, paired differences, corrected p-values.

Dice of a case is its mean over foreground classes; seeds are averaged per case before anything is
compared, so that cases are the independent unit (`jaxmedgen.metrics.statistics`). Holm's correction
runs over every comparison on the page (arms x budgets), since the answer speaks of all of them.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import rich.box
import rich.console
import rich.table
from jaxtyping import Float

from jaxmedgen.data.splits import patient_of
from jaxmedgen.metrics import statistics
from jaxmedgen.report import formats
from jaxmedgen.report.controls import Added, added_by_arms, missing_controls, sentence
from jaxmedgen.report.power import ALPHA, FEW_CASES, lacks_power
from jaxmedgen.report.results import AblationResults, patient_matrix, score_matrix

NAMED = 5
"""Arms beside the best one whose gains the answer tells; a table has them all."""


@dataclasses.dataclass(frozen=True)
class ArmResult:
    """One arm at one label budget.

    Attributes:
        arm: name of the arm.
        budget: number of labelled training cases.
        score: mean foreground Dice over cases with its 95 % bootstrap interval.
        case_scores: Dice of every scored case, averaged over seeds.
        seeds: number of finished runs.
        seed_sd: standard deviation over seeds of the mean Dice; 0 for one seed.
        difference: against the reference arm; None for the reference itself or where it is missing.
        p_holm: corrected p-value; None where there is no difference.
        seconds: mean wall time a run.
        augmenter_seconds: mean wall time of training the arm's generative model.
    """

    arm: str
    budget: int
    score: statistics.Interval
    case_scores: dict[str, float]
    seeds: int
    seed_sd: float
    difference: statistics.PairedDifference | None
    p_holm: float | None
    seconds: float
    augmenter_seconds: float

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value is below 0.05."""
        return self.p_holm is not None and self.p_holm < ALPHA


@dataclasses.dataclass(frozen=True)
class Summary:
    """The statistics table with the answer in words.

    Attributes:
        reference_arm: the arm that the others are compared with.
        rows: by budget, then in the arms' order; arms without a scored run are left out.
        comparisons: number of p-values that Holm's correction covers.
        answer: one or two sentences.
        notes: what limits the answer: few cases, missing runs, missing controls.
        added: what the models add to the augmentation that they are trained with.
    """

    reference_arm: str
    rows: tuple[ArmResult, ...]
    comparisons: int
    answer: str
    notes: tuple[str, ...]
    added: tuple[Added, ...] = ()

    def find(self, arm: str, budget: int) -> ArmResult | None:
        """The row of one arm and budget, if it has one."""
        for row in self.rows:
            if (row.arm, row.budget) == (arm, budget):
                return row
        return None


def summarise(results: AblationResults) -> Summary:
    """Means, intervals and comparisons of every arm and budget, and the answer in words.

    Raises:
        ValueError: no run scored any case.
    """
    rows = []
    for budget in results.budgets:
        reference = patient_matrix(results, results.reference_arm, budget)
        for arm in results.arms:
            scores = patient_matrix(results, arm, budget)
            if not np.isfinite(scores).any():
                continue
            rows.append(_row(results, arm, budget, scores, reference))
    if not rows:
        raise ValueError("no run scored any case: there is nothing to report")
    compared = [i for i, row in enumerate(rows) if row.difference is not None]
    corrected = statistics.holm([rows[i].difference.p_value for i in compared])
    for i, p_value in zip(compared, corrected):
        rows[i] = dataclasses.replace(rows[i], p_holm=p_value)
    added = added_by_arms(results)
    return Summary(
        reference_arm=results.reference_arm,
        rows=tuple(rows),
        comparisons=len(compared),
        answer=" ".join(part for part in (_answer(results, rows), sentence(added)) if part),
        notes=tuple(_notes(results, rows, len(compared))),
        added=added,
    )


def print_summary(summary: Summary, console: rich.console.Console | None = None) -> None:
    """The table and the answer, for the terminal."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    table.add_column("labels", justify="right")
    table.add_column("arm", overflow="fold")
    for heading in ("Dice [95 % CI]", f"vs {summary.reference_arm} [95 % CI]", "p (Holm)", "time"):
        table.add_column(heading, justify="right")
    budget = None
    for row in summary.rows:
        if budget is not None and row.budget != budget:
            table.add_section()
        table.add_row(
            "" if row.budget == budget else str(row.budget),
            row.arm,
            formats.interval(row.score),
            "reference" if row.arm == summary.reference_arm else formats.difference(row.difference),
            formats.p_value(row.p_holm),
            formats.duration(row.seconds + row.augmenter_seconds),
            style="bold" if row.significant else None,
        )
        budget = row.budget
    console = console or rich.console.Console()
    console.print(table)
    console.print(summary.answer, highlight=False)
    for note in summary.notes:
        console.print(f"Note: {note}", style="dim", highlight=False)


def _row(
    results: AblationResults,
    arm: str,
    budget: int,
    scores: Float[np.ndarray, "s patients"],
    reference: Float[np.ndarray, "r patients"],
) -> ArmResult:
    runs = results.select(arm, budget)
    by_case = statistics.seed_mean(score_matrix(results, arm, budget))
    by_seed = [float(np.nanmean(row)) for row in scores if np.isfinite(row).any()]
    shared = np.isfinite(scores).any(axis=0) & np.isfinite(reference).any(axis=0)
    compare = arm != results.reference_arm and shared.any()
    return ArmResult(
        arm=arm,
        budget=budget,
        score=statistics.mean_interval(statistics.seed_mean(scores)),
        case_scores={c: float(s) for c, s in zip(results.cases, by_case) if not math.isnan(s)},
        seeds=len(runs),
        seed_sd=float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else 0.0,
        difference=statistics.paired_difference(scores, reference) if compare else None,
        p_holm=None,
        seconds=float(np.mean([run.seconds for run in runs])),
        augmenter_seconds=float(np.mean([run.augmenter_seconds for run in runs])),
    )


def _answer(results: AblationResults, rows: Sequence[ArmResult]) -> str:
    """What the comparison says, budget by budget; never more than the corrected test supports."""
    compared = [row for row in rows if row.difference is not None]
    if not compared:
        return f"Nothing to compare: only the arm {results.reference_arm!r} has scores."
    sentences = []
    silent = []
    for budget in results.budgets:
        found = [row for row in compared if row.budget == budget]
        better = [r for r in found if r.significant and r.difference.interval.mean > 0]
        worse = [r for r in found if r.significant and r.difference.interval.mean < 0]
        better.sort(key=lambda r: -r.difference.interval.mean)
        if better:
            first = better[0]
            text = (
                f"With {_labels(results.unit, budget)}, {first.arm} raised mean foreground Dice "
                f"from {first.score.mean - first.difference.interval.mean:.3f} to "
                f"{first.score.mean:.3f} ({_gain(first)})"
            )
            if better[1:]:
                named = [f"{r.arm} ({_gain(r)})" for r in better[1 : 1 + NAMED]]
                if better[1 + NAMED :]:
                    named.append(f"and {len(better) - 1 - NAMED} more in the table")
                text += "; also better: " + ", ".join(named)
            sentences.append(text + ".")
        if worse:
            text = ", ".join(f"{r.arm} ({_gain(r)})" for r in worse)
            sentences.append(f"With {_labels(results.unit, budget)}, significantly worse: {text}.")
        if found and not better and not worse:
            silent.append(budget)
    if silent:
        least = min((r for r in compared if r.budget in silent), key=_closeness)
        where = "at any label budget" if not sentences else f"with {_labels(results.unit, *silent)}"
        if len(results.budgets) == 1:
            where = f"with {_labels(results.unit, *silent)}"
        sentences.append(
            f"No arm differed significantly from the reference ({results.reference_arm}) {where} "
            f"(closest: {least.arm}, {_labels(results.unit, least.budget)}, {_gain(least)})."
        )
    cases = sorted({row.difference.interval.count for row in compared})
    seeds = sorted({row.seeds for row in compared})
    unit = "test cases"
    if len({patient_of(case) for case in results.cases}) < len(results.cases):
        unit = "test patients"
    return " ".join(sentences) + f" n = {_range(cases)} {unit}, {_range(seeds)} seeds per arm."


def _notes(results: AblationResults, rows: Sequence[ArmResult], comparisons: int) -> list[str]:
    notes = []
    if comparisons:
        fewest = min(row.difference.interval.count for row in rows if row.difference is not None)
        if short := lacks_power(fewest, comparisons):
            notes.append(short)
        if fewest < FEW_CASES:
            notes.append(
                f"Bootstrap intervals from {fewest} cases tend to be too narrow: take them as a "
                "lower bound of the uncertainty."
            )
    patients = len({patient_of(case) for case in results.cases})
    if patients < len(results.cases):
        notes.append(
            f"The {len(results.cases)} test cases are of {patients} patients: means, intervals and "
            "tests are over patients, each with the mean of its cases."
        )
    if results.unit == "patient":
        notes.append("Numbers of labels count patients; all scans of a patient are labelled.")
    alone = missing_controls(tuple(results.arms), dict(results.controls))
    if alone:
        notes.append(alone)
    missing = []
    for budget in results.budgets:
        for arm in results.arms:
            if budget not in results.budgets_of.get(arm, results.budgets):
                continue
            done, seeds = len(results.select(arm, budget)), len(results.seeds)
            failed = sum(name.startswith(f"{arm}, {budget} l") for name in results.failures)
            if done + failed < seeds:
                missing.append(f"{arm}/{budget} labels ({done} of {seeds} seeds)")
    if missing:
        notes.append("Runs are missing: " + ", ".join(missing) + ".")
    if results.failures:
        notes.append(
            f"Runs failed and have no scores: {'; '.join(results.failures)}. The means of their "
            "arms are of the seeds that went well, which flatters them; the warnings say why."
        )
    return notes


def _gain(row: ArmResult) -> str:
    i = row.difference.interval
    text = f"difference {i.mean:+.3f}"
    if i.method != "single":
        text += f", 95 % CI {i.low:+.3f} to {i.high:+.3f}"
    p_value = formats.p_value(row.p_holm)
    text += f", corrected p {p_value}" if p_value[0] == "<" else f", corrected p = {p_value}"
    return formats.minus(text)


def _closeness(row: ArmResult) -> tuple[float, float]:
    return row.p_holm, -abs(row.difference.interval.mean)


def _labels(unit: str, *budgets: int) -> str:
    text = ", ".join(map(str, budgets[:-1])) + (" or " if budgets[1:] else "") + str(budgets[-1])
    return f"{text} labelled {unit}" + ("" if budgets == (1,) else "s")


def _range(values: Sequence[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"
