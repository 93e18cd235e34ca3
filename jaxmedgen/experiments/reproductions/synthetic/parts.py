"""What the parts share: an experiment's results, its claims by group of cases, its table."""

import dataclasses
from collections.abc import Callable

import numpy as np

from jaxmedgen.configuration import load_config
from jaxmedgen.experiments.reproductions.record import Claim, Options
from jaxmedgen.experiments.synthetic.generator_sources import style_bank, trained_on
from jaxmedgen.experiments.synthetic.running import run_experiment, setting_of
from jaxmedgen.experiments.synthetic.setting import Setting
from jaxmedgen.experiments.synthetic.usability import EXPERIMENTS
from jaxmedgen.metrics.statistics import PairedDifference, holm, paired_difference, wilcoxon_test
from jaxmedgen.report.page import write_report
from jaxmedgen.report.pictures import montage, three_planes
from jaxmedgen.report.results import AblationResults, save_results, score_matrix

SEEDS = 3


@dataclasses.dataclass(frozen=True)
class Trained:
    """A generator that is trained on the subjects which each arm may see.

    Attributes:
        config: its configuration, ``NAME:SIZE,arm=...``.
        steps: of its training.
    """

    config: str
    steps: int


def setting(
    options: Options, experiment: str, generator: Trained | None = None, **own: str
) -> Setting:
    """An experiment of `configs/synthetic_data_evaluation.py` with the oracle, or a generator.

    Keys of `own` have two underscores for the dot: ``experiment__ratios="(5,)"``.
    """
    changes = {key.replace("__", "."): value for key, value in own.items()}
    config = load_config(
        f"synthetic_data_evaluation:cpu,experiment={experiment}", {**changes, **options.overrides}
    )
    made = setting_of(config, "oracle")
    if generator is None:
        return made
    learnt = trained_on(generator.config, style_bank(config), steps=generator.steps)
    return dataclasses.replace(made, generator=learnt)


def run(
    options: Options,
    made: Setting,
    experiment: str,
    wanted: Callable[[str], bool],
    dataset: str,
) -> AblationResults:
    """The chosen arms of an experiment; writes its report beside the runs."""
    parts = [
        dataclasses.replace(part, arms={n: arm for n, arm in part.arms.items() if wanted(n)})
        for part in EXPERIMENTS[experiment](made)
    ]
    results = run_experiment(
        experiment,
        made,
        options.workdir / experiment,
        seeds=SEEDS,
        dataset=dataset,
        parts=[part for part in parts if part.arms],
        progress=options.progress,
        cache=options.workdir / "cache",
    )
    save_results(results, options.workdir / experiment / "results")
    write_report(results, options.workdir / experiment / "report.html")
    return results


def scores(
    results: AblationResults, arm: str, budget: int, group: str = "", metric: str = "dice"
) -> np.ndarray:
    """Scores ``[seeds, cases]`` of the cases whose names have `group` between dashes."""
    chosen = [not group or group in case.split("-") for case in results.cases]
    return score_matrix(results, arm, budget, metric)[:, chosen]


def difference(
    results: AblationResults, arm: str, reference: str, budget: int, group: str = ""
) -> PairedDifference:
    """Dice of an arm less that of another at one budget, paired by the cases of a group."""
    return paired_difference(
        scores(results, arm, budget, group), scores(results, reference, budget, group)
    )


def at_least(name: str, between: PairedDifference, least: float) -> Claim:
    """The claim that a difference is at least so large; of a gain also that it is certain."""
    ends = between.interval
    certain = least <= 0 or ends.low > 0
    expected = f">= {least:+.2f} Dice" + (", 95 % interval above 0" if least > 0 else "")
    return Claim(
        name, expected, ends.mean, (ends.low, ends.high), bool(ends.mean >= least and certain)
    )


def table(results: AblationResults, groups: tuple[str, ...], reference: str) -> str:
    """Mean Dice and HD95 by arm, budget and group, with the difference to a reference arm.

    p-values are Wilcoxon's, corrected after Holm over the table.
    """
    compared = {
        (budget, arm): difference(results, arm, reference, budget)
        for budget in results.budgets
        for arm in results.arms
        if arm != reference and results.select(arm, budget) and results.select(reference, budget)
    }
    corrected = holm([wilcoxon_test(between.differences) for between in compared.values()])
    p_values = dict(zip(compared, corrected))
    lines = [
        "| real subjects | arm | "
        + " | ".join(f"Dice {g or 'all'} | HD95 {g or 'all'} (mm)" for g in groups)
        + f" | against {reference}, all | p (Wilcoxon, Holm) |",
        "|---|---|" + "---|---|" * len(groups) + "---|---|",
    ]
    for budget in results.budgets:
        for arm in results.arms:
            if not results.select(arm, budget):
                continue
            cells = []
            for group in groups:
                cells.append(f"{np.nanmean(scores(results, arm, budget, group)):.3f}")
                distance = np.nanmean(scores(results, arm, budget, group, "hd95"))
                cells.append(f"{distance:.1f}")
            shown = ["", ""]
            if (budget, arm) in compared:
                ends, p = compared[budget, arm].interval, p_values[budget, arm]
                shown = [f"{ends.mean:+.3f} [{ends.low:+.3f}, {ends.high:+.3f}]", f"{p:.3f}"]
            lines.append(f"| {budget} | {arm} | " + " | ".join([*cells, *shown]) + " |")
    return "\n".join(lines)


def training_samples(results: AblationResults, count: int = 4) -> np.ndarray | None:
    """A row of training images an arm, in the arms' order."""
    rows = [
        [three_planes(image, label, height=96) for image, label in shown[:count]]
        for shown in results.samples.values()
    ]
    if not rows:
        return None
    return montage([montage(row, columns=count) for row in rows], columns=1)
