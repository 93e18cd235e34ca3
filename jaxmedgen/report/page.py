"""The ablation's page: one self-contained HTML file, with its numbers as JSON and CSV beside it.

Pictures and style sheet are inside the file and a content security policy forbids any request: the
page opens from disk, from a mail or from a server in ten years and shows the same.
"""

import csv
import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import jinja2
import numpy as np

from jaxmedgen.metrics import segmentation, statistics, tables
from jaxmedgen.report import figures, formats, pictures
from jaxmedgen.report.cards import data_uri, overlay_groups, sample_strips
from jaxmedgen.report.results import AblationResults, score_matrix
from jaxmedgen.report.summary import Summary, summarise


@dataclasses.dataclass(frozen=True)
class GroupTable:
    """Mean Dice by groups of the test cases, or other numbers of every arm and budget.

    Attributes:
        what: the groups are, a noun: vendor, disease.
        names: of the groups.
        rows: arm, budget, and the mean of every group; NaN where there is none.
        title: of the section; "" for "Dice by ...".
    """

    what: str
    names: tuple[str, ...]
    rows: tuple[tuple[str, int, tuple[float, ...]], ...]
    title: str = ""


def write_report(
    results: AblationResults,
    path: pathlib.Path | str,
    *,
    readings: Sequence[str] = (),
    groups: Sequence[GroupTable] = (),
) -> pathlib.Path:
    """Writes the page to `path` and, beside it, ``<stem>.json`` and two CSV files.

    ``<stem>.json`` and ``<stem>.csv`` hold the summary table, ``<stem>_cases.csv`` every score of
    every run, case and class.

    Args:
        results: of the study.
        path: of the page.
        readings: sentences on what the numbers mean, shown below the answer.
        groups: Dice by vendor or disease.

    Raises:
        ValueError: no run scored any case.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    summary = summarise(results)
    path.write_text(render(results, summary, readings, groups), encoding="utf-8")
    _write_numbers(results, summary, path)
    return path


def render(
    results: AblationResults,
    summary: Summary,
    readings: Sequence[str] = (),
    groups: Sequence[GroupTable] = (),
) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent / "templates"),
        autoescape=jinja2.select_autoescape(("html.j2", "html")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "interval": formats.interval,
        "difference": formats.difference,
        "p": formats.p_value,
        "duration": formats.duration,
        "setting": formats.setting,
    }
    return environment.get_template("report.html.j2").render(
        results=results,
        summary=summary,
        readings=readings,
        group_tables=groups,
        styles=figures.arm_styles(results),
        legend=list(
            zip(results.class_names[1:], pictures.class_colours(len(results.class_names) - 1))
        ),
        error_legend=list(zip(("missed", "added", "wrong class"), pictures.ERROR_COLOURS)),
        charts=_charts(results, summary),
        class_tables=[(budget, class_table(results, budget)) for budget in results.budgets],
        counts=[
            (budget, arm, empty_counts(results, arm, budget))
            for budget in results.budgets
            for arm in results.arms
            if results.select(arm, budget)
        ],
        overlays=overlay_groups(results),
        samples=sample_strips(results),
        costs=_costs(results),
        fits=fit_table(results),
        warnings=[
            (f"{run.arm}, {run.budget} labels, seed {run.seed}", text)
            for run in results.runs
            for text in run.warnings
        ]
        + [(name, f"failed: {text}") for name, text in results.failures.items()],
        tolerance=results.settings.get("surface_dice_tolerance", segmentation.TOLERANCE),
        metric_labels=[tables.LABELS[metric] for metric in _metrics(results)],
    )


def class_table(results: AblationResults, budget: int) -> list[dict[str, Any]]:
    """Rows of class and arm with the mean of every metric over cases (seeds averaged first).

    Each cell holds the mean, its text and whether it is the best among the arms.
    """
    metrics = _metrics(results)
    groups = []
    for name in _scored_names(results):
        rows = []
        for arm in results.arms:
            if not results.select(arm, budget):
                continue
            cells = {}
            for metric in metrics:
                values = statistics.seed_mean(score_matrix(results, arm, budget, metric, name))
                values = values[np.isfinite(values)]
                cells[metric] = float(values.mean()) if values.size else math.nan
            count = empty_counts(results, arm, budget, name)
            rows.append(
                {
                    "arm": arm,
                    "means": cells,
                    "penalised": count["missed"] + count["spurious"],
                    "scored": count["scored"],
                }
            )
        for metric in metrics:
            better = max if metric in segmentation.OVERLAPS else min
            known = [row["means"][metric] for row in rows if math.isfinite(row["means"][metric])]
            for row in rows:
                value = row["means"][metric]
                digits = 3 if metric in segmentation.OVERLAPS else 2
                row.setdefault("cells", []).append(
                    {
                        "text": f"{value:.{digits}f}" if math.isfinite(value) else "—",
                        "best": len(set(known)) > 1 and value == better(known),
                    }
                )
        groups.append({"name": name, "rows": rows})
    return groups


def empty_counts(
    results: AblationResults, arm: str, budget: int, class_name: str = ""
) -> dict[str, int]:
    """How often the policy on empty masks acted, over runs, cases and classes (or one class).

    Keys: ``scored``, ``missed``, ``spurious``, ``excluded``.
    """
    counts = dict.fromkeys(("scored", "missed", "spurious", "excluded"), 0)
    for run in results.select(arm, budget):
        if not run.scores:
            continue
        for row in tables.aggregate(run.scores):
            if row.metric != "dice" or row.class_name == tables.FOREGROUND:
                continue
            if class_name in ("", row.class_name):
                for key in counts:
                    counts[key] += getattr(row, key)
    return counts


def _scored_names(results: AblationResults) -> tuple[str, ...]:
    """The classes, or the regions that took their place."""
    found = {name: None for r in results.runs for scores in r.scores.values() for name in scores}
    classes = results.class_names[1:]
    return classes if found.keys() <= set(classes) else tuple(found)


def _metrics(results: AblationResults) -> list[str]:
    found = {
        metric
        for run in results.runs
        for scores in run.scores.values()
        for values in scores.values()
        for metric in values
    }
    return [metric for metric in tables.LABELS if metric in found]


def _charts(results: AblationResults, summary: Summary) -> dict[str, str | None]:
    drawn = {
        "budget": figures.budget_figure(results, summary),
        "cases": figures.case_figure(results, summary),
        "difference": figures.difference_figure(results, summary),
        "dice_curve": figures.curve_figure(results, "validation_dice", "validation Dice"),
        "loss_curve": figures.curve_figure(results, "train_loss", "training loss"),
    }
    return {
        name: None if svg is None else data_uri(svg.encode(), "image/svg+xml")
        for name, svg in drawn.items()
    }


def fit_table(results: AblationResults) -> list[dict[str, Any]]:
    """Training and test Dice, their difference and ECE of each arm and budget; means over seeds.

    Empty where none of it was measured (``measure_fit``).
    """
    rows = []
    for budget in results.budgets:
        for arm in results.arms:
            runs = [r for r in results.select(arm, budget) if r.training_dice is not None]
            if not runs:
                continue
            test = float(np.nanmean(score_matrix(results, arm, budget)))
            training = sum(run.training_dice for run in runs) / len(runs)
            ece = sum(run.ece for run in runs) / len(runs)
            row = {"arm": arm, "budget": budget, "training": training, "test": test}
            rows.append(row | {"gap": training - test, "ece": ece})
    return rows


def _costs(results: AblationResults) -> list[dict[str, Any]]:
    rows = []
    for arm in results.arms:
        runs = [run for run in results.runs if run.arm == arm]
        if runs:
            rows.append(
                {
                    "arm": arm,
                    "runs": len(runs),
                    "seconds": sum(run.seconds for run in runs) / len(runs),
                    "augmenter": sum(run.augmenter_seconds for run in runs) / len(runs),
                    "total": sum(run.seconds + run.augmenter_seconds for run in runs),
                }
            )
    return rows


def _write_numbers(results: AblationResults, summary: Summary, path: pathlib.Path) -> None:
    content = json.dumps(dataclasses.asdict(summary), indent=1, allow_nan=False)
    path.with_suffix(".json").write_text(content, encoding="utf-8")
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            "arm budget cases seeds dice low high seed_sd difference difference_low "
            "difference_high effect_size p_value p_holm seconds augmenter_seconds".split()
        )
        for row in summary.rows:
            d = row.difference
            compared = ["", "", "", "", "", ""]
            if d is not None:
                ends = (d.interval.mean, d.interval.low, d.interval.high)
                compared = [*ends, d.effect_size, d.p_value, row.p_holm]
            score = (row.score.mean, row.score.low, row.score.high, row.seed_sd)
            first = (row.arm, row.budget, row.score.count, row.seeds)
            writer.writerow([*first, *score, *compared, row.seconds, row.augmenter_seconds])
    with path.with_name(f"{path.stem}_cases.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        metrics = [*_metrics(results), *segmentation.SIZES]
        writer.writerow(["arm", "budget", "seed", "case", "class", *metrics])
        for run in results.runs:
            for case, scores in run.scores.items():
                for name, values in scores.items():
                    found = [values.get(metric, math.nan) for metric in metrics]
                    known = ["" if math.isnan(value) else value for value in found]
                    writer.writerow([run.arm, run.budget, run.seed, case, name, *known])
