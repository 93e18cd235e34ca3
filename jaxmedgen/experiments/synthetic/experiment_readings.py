"""What an experiment's numbers mean, and its Dice by vendor and disease of the test cases."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from jaxmedgen.data.case_groups import groups_of
from jaxmedgen.experiments.synthetic.interpretation import Findings, readings
from jaxmedgen.experiments.synthetic.setting import REAL
from jaxmedgen.metrics.statistics import mean_interval, seed_mean
from jaxmedgen.report.page import GroupTable
from jaxmedgen.report.results import AblationResults, patient_matrix, score_matrix


def findings_of(
    name: str,
    results: AblationResults,
    vendors: Sequence[str],
    trained: Sequence[str],
    *,
    honest: bool = True,
) -> Mapping[str, Findings]:
    """What is known of each synthetic arm, by its name.

    Args:
        name: of the experiment.
        results: its runs.
        vendors: of every test case, () where none is known.
        trained: vendors of the training subjects.
        honest: of the reduction, whether generators saw no more than their segmenters.
    """
    if name == "reduction":
        size, few = max(results.budgets), min(results.budgets)
        full = mean_dice(results, REAL, size)
        kept, knowing = (
            mean_dice(results, arm, few) / full
            for arm in ("real+synthetic", "real+synthetic, full generator")
        )
        if not honest:
            return {"real+synthetic": Findings(retention_full=knowing)}
        return {"real+synthetic": Findings(retention_honest=kept, retention_full=knowing)}
    found = {}
    for arm in results.arms:
        budgets = [b for b in results.budgets if results.select(arm, b)]
        made = "synthetic" in arm or "pathology" in arm
        if arm == REAL or not made or not budgets or "no augmentation" in arm:
            continue
        budget = max(budgets)
        seen = [v in trained for v in vendors] if vendors else [True] * len(results.cases)
        without = results.controls.get(arm, REAL)
        gains = {"gain_source": _gain(results, arm, without, budget, seen)}
        if vendors:
            gains["gain_unseen"] = _gain(results, arm, without, budget, [not s for s in seen])
        bare = f"{arm}, no augmentation"
        if bare in results.arms:
            every = [True] * len(results.cases)
            gains["gain_without_augmentation"] = _gain(
                results, bare, "real, no augmentation", budget, every
            )
        found[arm] = Findings(**gains)
    return found


def texts_of(found: Mapping[str, Findings]) -> tuple[str, ...]:
    """The readings, each with its arm."""
    return tuple(f"{arm}: {text}" for arm, known in found.items() for text in readings(known))


def group_tables(results: AblationResults, patterns: Mapping[str, str]) -> tuple[GroupTable, ...]:
    """Mean Dice of every arm and budget by the groups of the test cases.

    Args:
        results: of an experiment.
        patterns: of the groups (`case_groups.groups_of`) by what they are; "" leaves one out.
    """
    tables = []
    for what, pattern in patterns.items():
        if not pattern:
            continue
        groups = groups_of(results.cases, pattern)
        names = tuple(sorted(set(groups)))
        rows = tuple(
            (
                arm,
                budget,
                tuple(mean_dice(results, arm, budget, [g == n for g in groups]) for n in names),
            )
            for budget in results.budgets
            for arm in results.arms
            if results.select(arm, budget)
        )
        tables.append(GroupTable(what, names, rows))
    return tuple(tables)


EQUIVALENT = 0.02
"""Dice within which the whole interval of a difference must lie to count as no difference."""


def retention_table(results: AblationResults) -> GroupTable:
    """What fewer real subjects keep of the Dice that all of them give.

    ``retention`` is ``Dice(r real + synthetic) / Dice(all real)``; ``difference`` the same two
    subtracted, paired by test case, with the ends of its 95 % bootstrap interval.
    """
    size = max(results.budgets)
    full = seed_mean(patient_matrix(results, REAL, size))
    rows = []
    for budget in results.budgets:
        for arm in results.arms:
            if not results.select(arm, budget) or (arm, budget) == (REAL, size):
                continue
            ours = seed_mean(patient_matrix(results, arm, budget))
            around = mean_interval(ours - full)
            kept = float(np.nanmean(ours) / np.nanmean(full))
            real = 0 if arm == "synthetic only" else budget
            rows.append((arm, real, (kept, around.mean, around.low, around.high)))
    names = ("retention", "difference", "low", "high")
    return GroupTable("retention", names, tuple(rows), "What fewer real subjects keep")


def equivalences(table: GroupTable) -> tuple[str, ...]:
    """Which arms of `retention_table` are as good as all real subjects, a sentence each."""
    return tuple(
        f"{arm}, {budget} real subjects: as good as all of them (difference of Dice "
        f"{low:+.3f} to {high:+.3f}, within {EQUIVALENT:g})"
        for arm, budget, (_, _, low, high) in table.rows
        if -EQUIVALENT <= low and high <= EQUIVALENT
    )


def _gain(results, arm: str, reference: str, budget: int, chosen: Sequence[bool]) -> float:
    return mean_dice(results, arm, budget, chosen) - mean_dice(results, reference, budget, chosen)


def mean_dice(
    results: AblationResults, arm: str, budget: int, chosen: Sequence[bool] | None = None
) -> float:
    """Mean Dice over seeds and the chosen cases (all by default); NaN without any."""
    if arm not in results.arms or not results.select(arm, budget):
        return math.nan
    scores = score_matrix(results, arm, budget)
    scores = scores if chosen is None else scores[:, np.asarray(chosen, bool)]
    return float(np.nanmean(scores)) if scores.size and not np.isnan(scores).all() else math.nan
