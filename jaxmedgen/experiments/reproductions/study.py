"""Claims read off an augmentation study: an arm beats the reference by so much."""

import numpy as np

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.experiments.ablation import run_study
from jaxmedgen.experiments.arms import select_arms
from jaxmedgen.experiments.reproductions.record import Claim, Options, Reproduction
from jaxmedgen.experiments.study import Study
from jaxmedgen.report.page import write_report
from jaxmedgen.report.pictures import three_planes
from jaxmedgen.report.results import AblationResults, save_results
from jaxmedgen.report.summary import Summary, summarise


def run(
    options: Options,
    *,
    config_name: str,
    arms: tuple[str, ...],
    budgets: tuple[int, ...],
    seeds: int,
    dataset: str,
) -> tuple[AblationResults, Summary]:
    """Runs a study in ``options.workdir``, writes its report there."""
    overrides = dict(options.overrides)
    if options.data:
        folder = {"data.kind": "folder", "data.folder": options.data, "data.train": "0"}
        overrides = {**folder, **overrides}
    config = load_config(config_name, overrides)
    study = Study(
        config=config,
        sources=build_sources(config.data),
        arms=select_arms(arms),
        budgets=budgets,
        seeds=seeds,
        dataset=dataset,
    )
    results = run_study(study, options.workdir, progress=options.progress, go_on=False)
    save_results(results, options.workdir / "results")
    write_report(results, options.workdir / "report.html")
    return results, summarise(results)


def gain(summary: Summary, arm: str, budget: int, least: float, name: str) -> Claim:
    """The claim that `arm` gains at least `least` Dice over the reference, interval above zero."""
    between = summary.find(arm, budget).difference.interval
    return Claim(
        name=name,
        expected=f"gain >= {least:.2f} Dice, 95 % interval above 0",
        measured=float(between.mean),
        interval=(float(between.low), float(between.high)),
        holds=bool(between.mean >= least and between.low > 0),
    )


def reproduction(
    system: str,
    results: AblationResults,
    summary: Summary,
    claims: tuple[Claim, ...],
    notes: tuple[str, ...] = (),
) -> Reproduction:
    """Table, answer and pictures of a study with its claims; `notes` follow the answer."""
    lines = ["| labels | arm | Dice | 95 % interval | against the reference | p (Holm) |"]
    lines += ["|---|---|---|---|---|---|"]
    for row in summary.rows:
        against, p = "reference", ""
        if row.difference is not None:
            between = row.difference.interval
            against = f"{between.mean:+.3f} [{between.low:+.3f}, {between.high:+.3f}]"
            p = "" if row.p_holm is None else f"{row.p_holm:.3f}"
        lines.append(
            f"| {row.budget} | {row.arm} | {row.score.mean:.3f} "
            f"| [{row.score.low:.3f}, {row.score.high:.3f}] | {against} | {p} |"
        )
    pictures = {}
    for arm in results.arms:
        shown = [o for o in results.overlays if o.arm == arm and o.budget == max(results.budgets)]
        if shown:
            middle = sorted(shown, key=lambda o: np.nan_to_num(o.score))[len(shown) // 2]
            pictures[arm] = three_planes(
                middle.image, middle.label, middle.prediction, spacing=results.spacing
            )
    return Reproduction(
        system=system,
        seeds=len(results.seeds),
        seconds=results.total_seconds,
        claims=claims,
        table="\n".join(lines),
        pictures=pictures,
        notes=(summary.answer, *summary.notes, *notes),
    )
