"""Case scores to tables: one row a class and metric, as CSV, JSON and a table for the terminal."""

import csv
import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import rich.box
import rich.table

from jaxmedgen.metrics import segmentation

Cases = Mapping[str, segmentation.Scores]
"""Scores of many cases: ``cases[case][class_name][metric]``."""

LABELS = {
    "dice": "Dice",
    "iou": "IoU",
    "nsd": "Surface Dice",
    "hd": "HD (mm)",
    "hd95": "HD95 (mm)",
    "assd": "ASSD (mm)",
}
"""How tables name the metrics."""

FOREGROUND = "foreground"
"""Name of the row that averages the classes of a case before averaging over cases."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One class and metric over all cases.

    Attributes:
        class_name: a class, or `FOREGROUND`: per case the mean over its scored classes.
        metric: name as in `segmentation.evaluate_case`.
        mean: mean over scored cases; NaN if there are none.
        sd: standard deviation (n - 1); 0 for one case.
        median: median over scored cases.
        low: smallest value.
        high: largest value.
        scored: number of cases in the mean.
        excluded: cases left out because the class is in neither mask.
        missed: scored cases where the reference has the class and the prediction does not.
        spurious: scored cases where only the prediction has it.
    """

    class_name: str
    metric: str
    mean: float
    sd: float
    median: float
    low: float
    high: float
    scored: int
    excluded: int
    missed: int
    spurious: int


def aggregate(cases: Cases) -> tuple[Row, ...]:
    """Rows for every metric of `FOREGROUND` and of every class, in that order.

    Missed and spurious structures stay in the mean at their penalty; cases without the class in
    either mask are excluded and counted. `missed` and `spurious` of `FOREGROUND` sum over classes.

    Raises:
        ValueError: there are no cases, or cases score different classes.
    """
    if not cases:
        raise ValueError("no cases to aggregate")
    names = list(next(iter(cases.values())))
    for case, scores in cases.items():
        if list(scores) != names:
            raise ValueError(f"case {case!r} scores classes {list(scores)}, others {names}")
    # Cases that an older version scored may lack a metric.
    metrics = [m for m in LABELS if all(m in s[name] for s in cases.values() for name in names)]
    counts = {name: _count(cases, name) for name in names}
    rows = [
        _row(
            FOREGROUND,
            metric,
            [segmentation.foreground_mean(scores, metric) for scores in cases.values()],
            sum(missed for missed, _ in counts.values()),
            sum(spurious for _, spurious in counts.values()),
        )
        for metric in metrics
    ]
    for name in names:
        for metric in metrics:
            values = [scores[name][metric] for scores in cases.values()]
            rows.append(_row(name, metric, values, *counts[name]))
    return tuple(rows)


def write_cases_csv(cases: Cases, path: pathlib.Path) -> pathlib.Path:
    """One line a case and class with all metrics; an excluded value is an empty field."""
    first = next(iter(cases.values()))
    metrics = list(next(iter(first.values())))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "class", *metrics])
        for case, scores in cases.items():
            for name, values in scores.items():
                writer.writerow([case, name, *(_plain(values[m]) for m in metrics)])
    return path


def write_csv(rows: Sequence[Row], path: pathlib.Path) -> pathlib.Path:
    """The aggregated rows, one line each; NaN is an empty field."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in dataclasses.fields(Row)])
        for row in rows:
            writer.writerow([_plain(value) for value in dataclasses.astuple(row)])
    return path


def write_json(
    cases: Cases, path: pathlib.Path, settings: Mapping[str, object] | None = None
) -> pathlib.Path:
    """Cases, aggregated rows and `settings` (spacing, tolerance, ...) in one file; NaN is null."""
    content = {
        "settings": dict(settings or {}),
        "summary": [
            {k: _null(v) for k, v in dataclasses.asdict(row).items()} for row in aggregate(cases)
        ],
        "cases": {
            case: {
                name: {metric: _null(value) for metric, value in values.items()}
                for name, values in scores.items()
            }
            for case, scores in cases.items()
        },
    }
    path.write_text(json.dumps(content, indent=1, allow_nan=False))
    return path


def rich_table(rows: Sequence[Row], title: str = "") -> rich.table.Table:
    """One line a class with the mean of every metric, for a terminal of 80 columns.

    The standard deviation of the first metric stands beside it where there is more than one case;
    the caption counts excluded, missed and spurious structures.
    """
    metrics = list(dict.fromkeys(row.metric for row in rows))
    table = rich.table.Table(title=title or None, box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("class", overflow="fold")
    for metric in metrics:
        heading = LABELS.get(metric, metric).replace(" ", "\n")
        table.add_column(heading, justify="right", no_wrap=True)
        if any(row.scored > 1 for row in rows) and metric == metrics[0]:
            table.add_column("±", justify="right", no_wrap=True)
    table.add_column("cases", justify="right")
    for name in dict.fromkeys(row.class_name for row in rows):
        found = {row.metric: row for row in rows if row.class_name == name}
        cells = [format_mean(found[m]).split(" ± ") for m in metrics]
        texts = [cell[0] for cell in cells]
        if any(row.scored > 1 for row in rows):
            texts.insert(1, cells[0][-1])
        table.add_row(name, *texts, str(found[metrics[0]].scored))
    first = {row.class_name: row for row in rows if row.metric == metrics[0]}
    table.caption = "; ".join(
        f"{count}: {', '.join(listed)}"
        for count in ("missed", "spurious", "excluded")
        if (
            listed := [
                f"{name} {getattr(row, count)}"
                for name, row in first.items()
                if getattr(row, count) and name != FOREGROUND
            ]
        )
    )
    return table


def format_mean(row: Row) -> str:
    """``mean ± sd`` with digits that suit the metric, or a dash."""
    if math.isnan(row.mean):
        return "—"
    digits = 2 if row.metric in segmentation.DISTANCES else 3
    return f"{row.mean:.{digits}f} ± {row.sd:.{digits}f}"


def _row(name: str, metric: str, values: Sequence[float], missed: int, spurious: int) -> Row:
    scored = np.array([v for v in values if not math.isnan(v)], np.float64)
    if scored.size == 0:
        nan = math.nan
        return Row(name, metric, nan, nan, nan, nan, nan, 0, len(values), missed, spurious)
    return Row(
        class_name=name,
        metric=metric,
        mean=float(scored.mean()),
        sd=float(scored.std(ddof=1)) if scored.size > 1 else 0.0,
        median=float(np.median(scored)),
        low=float(scored.min()),
        high=float(scored.max()),
        scored=scored.size,
        excluded=len(values) - scored.size,
        missed=missed,
        spurious=spurious,
    )


def _count(cases: Cases, name: str) -> tuple[int, int]:
    """Missed and spurious cases of one class; none known where sizes were not recorded."""
    missed = spurious = 0
    for scores in cases.values():
        true = scores[name].get("reference_size", math.nan)
        predicted = scores[name].get("prediction_size", math.nan)
        missed += true > 0 and predicted == 0
        spurious += predicted > 0 and true == 0
    return int(missed), int(spurious)


def _null(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


def _plain(value: object) -> object:
    return "" if isinstance(value, float) and math.isnan(value) else value
