"""Claim B, the talk's: C4 with as many feature maps as the baseline, or with as many parameters.

Lesions at any rotation, few training volumes, the same test volumes for all.
"""

import numpy as np

from jaxmedgen.data.build import build_sources
from jaxmedgen.experiments.reproductions.gcnn.parts import (
    Part,
    difference,
    network,
    settings,
    size_table,
    study,
)
from jaxmedgen.experiments.reproductions.record import Claim, Options
from jaxmedgen.metrics.statistics import mean_interval
from jaxmedgen.report.results import AblationResults
from jaxmedgen.report.summary import score_matrix

BUDGETS = (4, 8, 16)
SEEDS = 3
ARMS = {
    "baseline": network("no symmetry", "baseline"),
    "c4-features": network("C4, as many feature maps", "c4_features"),
    "c4-parameters": network("C4, as many parameters", "c4_parameters"),
}


def run(options: Options) -> Part:
    """Trains every arm on every number of volumes and checks the claims."""
    config = settings(
        options,
        steps="150",
        data__train=str(max(BUDGETS)),
        data__validation="0",
        data__train_pose="random",
        data__test_pose="random",
        eval_every="0",
    )
    sources = build_sources(config.data)
    results, summary = study(
        options, "sizes", config, sources, ARMS, BUDGETS, SEEDS, "lesions at any rotation"
    )
    return Part(
        results.total_seconds,
        claims(results),
        size_table(results, summary),
        notes=(_note(results),),
    )


def _note(results: AblationResults) -> str:
    """How many runs learnt nothing, and what the scores mean."""
    silent = {
        arm: sum(
            float(np.nanmean(row)) < 0.01
            for budget in results.budgets
            for row in score_matrix(results, arm, budget)
        )
        for arm in results.arms
    }
    runs = len(results.budgets) * len(results.seeds)
    counts = ", ".join(f"{count} of {arm}" for arm, count in silent.items())
    return (
        f"Matched sizes ({len(results.seeds)} seeds): calling every lesion a bar, or every one "
        "bent, gives a Dice of about a third, and no network gets far beyond it in so few steps. "
        f"Of {runs} runs an arm, those that had not found a single lesion: {counts}. The mean "
        "over the group before the head makes the start of training slow. Differences between the "
        "arms here say who started first, not who needs fewer scans."
    )


def claims(results: AblationResults) -> tuple[Claim, ...]:
    """Matched features do not win, matched parameters do, less so with more data."""
    found = []
    for budget in results.budgets:
        between = difference(results, "c4-features", budget).interval
        found.append(
            Claim(
                f"C4 with as many feature maps as the baseline, against it, N = {budget}",
                "<= 0 Dice",
                between.mean,
                (between.low, between.high),
                bool(between.mean <= 0),
            )
        )
    few, many = min(results.budgets), max(results.budgets)
    gains = {n: difference(results, "c4-parameters", n) for n in results.budgets}
    first = gains[few].interval
    shrinks = mean_interval(np.subtract(gains[few].differences, gains[many].differences))
    return (
        *found,
        Claim(
            f"C4 with as many parameters as the baseline, against it, N = {few}",
            "gain >= 0.02 Dice",
            first.mean,
            (first.low, first.high),
            bool(first.mean >= 0.02),
        ),
        Claim(
            f"its gain at N = {few} less its gain at N = {many}: shrinks with more data",
            "> 0 Dice",
            shrinks.mean,
            (shrinks.low, shrinks.high),
            bool(shrinks.mean > 0),
        ),
    )
