"""The report's figures, drawn by matplotlib's Agg/SVG backends into SVG text."""

import io
import math
from collections.abc import Mapping, Sequence

import matplotlib
import matplotlib.figure
import matplotlib.ticker
import numpy as np
from jaxtyping import UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg

from jaxmedgen.report.results import AblationResults
from jaxmedgen.report.summary import Summary

ARM_COLOURS = "#4D4D4D #0072B2 #D55E00 #009E73 #CC79A7 #E69F00 #56B4E9 #882255 #999933".split()
"""The reference is grey; the others follow Okabe & Ito, then Tol."""

MARKERS = "osD^vPX<>"

PANELS = 3
"""Panels side by side; further label budgets go below."""

_STYLE = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": "#444444",
    "axes.labelcolor": "#222222",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxmedgen",
}
_GRID = {"color": "#e4e4e4", "linewidth": 0.6}


def arm_styles(results: AblationResults) -> dict[str, tuple[str, str]]:
    """Colour and marker of every arm, no pair twice; the reference arm alone is grey."""
    others = [arm for arm in results.arms if arm != results.reference_arm]
    grey, *colours = ARM_COLOURS
    return {results.reference_arm: (grey, MARKERS[0])} | {
        arm: (colours[i % len(colours)], MARKERS[(i + 1) % len(MARKERS)])
        for i, arm in enumerate(others)
    }


def budget_figure(results: AblationResults, summary: Summary) -> str:
    """Mean foreground Dice against the number of labelled cases, with 95 % intervals.

    With one number of labelled cases: a line an arm.
    """
    with matplotlib.rc_context(_STYLE):
        return _svg(_budget_figure(results, summary))


def budget_picture(results: AblationResults, summary: Summary) -> UInt8[np.ndarray, "h w 3"]:
    """`budget_figure` as an RGB picture."""
    with matplotlib.rc_context(_STYLE):
        figure = _budget_figure(results, summary)
        figure.set_dpi(130)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.array(canvas.buffer_rgba())[..., :3]


def _budget_figure(results: AblationResults, summary: Summary) -> matplotlib.figure.Figure:
    if len(results.budgets) == 1:
        return _arm_figure(results, summary)
    figure = matplotlib.figure.Figure(figsize=(6.8, 3.4), layout="constrained")
    axes = figure.add_subplot()
    styles = arm_styles(results)
    for i, arm in enumerate(results.arms):
        rows = [row for row in summary.rows if row.arm == arm]
        if not rows:
            continue
        # Budgets are equally spaced; arms stand side by side so that intervals do not overlap.
        shift = min(0.08, 0.4 / len(results.arms)) * (i - (len(results.arms) - 1) / 2)
        x = [results.budgets.index(row.budget) + shift for row in rows]
        means = [row.score.mean for row in rows]
        ends = [
            [row.score.mean - row.score.low for row in rows],
            [row.score.high - row.score.mean for row in rows],
        ]
        colour, marker = styles[arm]
        axes.errorbar(
            x, means, ends, color=colour, marker=marker, ms=5, lw=1.2, elinewidth=1.2,
            capsize=2.5, label=arm,
        )  # fmt: skip
    axes.set_xticks(range(len(results.budgets)), [str(b) for b in results.budgets])
    axes.set_xlim(-0.5, len(results.budgets) - 0.5)
    axes.set_xlabel(f"labelled training {results.unit}s")
    axes.set_ylabel("mean foreground Dice")
    axes.grid(axis="y", **_GRID)
    axes.set_axisbelow(True)
    _legend(figure, axes)
    return figure


def _arm_figure(results: AblationResults, summary: Summary) -> matplotlib.figure.Figure:
    figure = matplotlib.figure.Figure(
        figsize=(6.8, 0.9 + 0.24 * len(summary.rows)), layout="constrained"
    )
    axes = figure.add_subplot()
    styles = arm_styles(results)
    for y, row in enumerate(summary.rows):
        colour, marker = styles[row.arm]
        ends = [[row.score.mean - row.score.low], [row.score.high - row.score.mean]]
        axes.errorbar(
            [row.score.mean], [y], xerr=ends, color=colour, marker=marker, ms=5, elinewidth=1.2,
            capsize=2.5,
        )  # fmt: skip
        if row.arm == results.reference_arm:
            axes.axvline(row.score.mean, color=colour, lw=0.8, ls=":")
    axes.set_yticks(range(len(summary.rows)), [row.arm for row in summary.rows])
    axes.set_ylim(len(summary.rows) - 0.5, -0.5)
    axes.set_xlabel(f"mean foreground Dice, {_budget_title(results.budgets[0], results.unit)}")
    axes.grid(axis="x", **_GRID)
    axes.set_axisbelow(True)
    return figure


def case_figure(results: AblationResults, summary: Summary) -> str:
    """Dice of every test case (mean over seeds) under every arm, one panel a budget.

    Grey lines join the same case.
    """
    with matplotlib.rc_context(_STYLE):
        figure, panels = _panels(results, height=3.1)
        styles = arm_styles(results)
        for budget, axes in zip(results.budgets, panels):
            rows = [row for row in summary.rows if row.budget == budget]
            for case in results.cases:
                line = [row.case_scores.get(case, math.nan) for row in rows]
                axes.plot(range(len(rows)), line, color="#c4c4c4", lw=0.7, zorder=1)
            for x, row in enumerate(rows):
                colour, marker = styles[row.arm]
                scores = list(row.case_scores.values())
                axes.scatter(
                    [x] * len(scores), scores, s=18, color=colour, marker=marker, zorder=2, lw=0
                )
                axes.hlines(row.score.mean, x - 0.22, x + 0.22, color=colour, lw=2, zorder=3)
            axes.set_xticks(range(len(rows)), [row.arm for row in rows])
            _slant(axes, rows)
            axes.set_xlim(-0.5, len(rows) - 0.5)
            axes.grid(axis="y", **_GRID)
            axes.set_axisbelow(True)
            axes.set_title(_budget_title(budget, results.unit))
        for axes in panels[::PANELS]:
            axes.set_ylabel("foreground Dice")
        return _svg(figure)


def difference_figure(results: AblationResults, summary: Summary) -> str | None:
    """Paired differences to the reference arm: a dot a case, the mean and its 95 % interval.

    None if nothing is compared.
    """
    if not summary.comparisons:
        return None
    with matplotlib.rc_context(_STYLE):
        arms = [arm for arm in results.arms if arm != results.reference_arm]
        height = 0.95 + 0.42 * max(1, len(arms))
        figure, panels = _panels(results, height, sharex=True)
        styles = arm_styles(results)
        for budget, axes in zip(results.budgets, panels):
            axes.axvline(0, color="#444444", lw=0.8)
            for y, arm in enumerate(arms):
                row = summary.find(arm, budget)
                if row is None or row.difference is None:
                    continue
                colour, marker = styles[arm]
                dots, interval = row.difference.differences, row.difference.interval
                axes.scatter(dots, [y + 0.2] * len(dots), s=12, color=colour, alpha=0.55, lw=0)
                axes.plot([interval.low, interval.high], [y, y], color=colour, lw=2)
                axes.plot(
                    interval.mean, y, marker=marker, color=colour, ms=6.5,
                    markerfacecolor=colour if row.significant else "white", markeredgewidth=1.5,
                )  # fmt: skip
            axes.set_yticks(range(len(arms)), arms)
            axes.set_ylim(len(arms) - 0.5, -0.5)
            axes.grid(axis="x", **_GRID)
            axes.set_axisbelow(True)
            axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
            axes.set_title(_budget_title(budget, results.unit))
            axes.set_xlabel(f"Dice difference to {results.reference_arm}")
        return _svg(figure)


def curve_figure(results: AblationResults, name: str, label: str) -> str | None:
    """Learning curves of one quantity: thin lines are seeds, thick ones their mean.

    None if no run recorded it.
    """
    if not any(name in record for run in results.runs for record in run.curve):
        return None
    with matplotlib.rc_context(_STYLE):
        figure, panels = _panels(results, height=2.9)
        styles = arm_styles(results)
        for budget, axes in zip(results.budgets, panels):
            for arm in results.arms:
                colour, _ = styles[arm]
                curves = [_curve(run.curve, name) for run in results.select(arm, budget)]
                curves = [curve for curve in curves if curve]
                for curve in curves:
                    axes.plot(*zip(*sorted(curve.items())), color=colour, lw=0.6, alpha=0.35)
                if curves:
                    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
                    mean = [np.mean([curve[step] for curve in curves]) for step in steps]
                    axes.plot(steps, mean, color=colour, lw=1.7, label=arm)
            axes.set_xlabel("training step")
            axes.grid(axis="y", **_GRID)
            axes.set_axisbelow(True)
            axes.set_title(_budget_title(budget, results.unit))
        for axes in panels[::PANELS]:
            axes.set_ylabel(label)
        _legend(figure, panels[0])
        return _svg(figure)


def _curve(records: Sequence[Mapping[str, float | int]], name: str) -> dict[float, float]:
    return {
        float(r["step"]): float(r[name]) for r in records if name in r and math.isfinite(r[name])
    }


def _panels(
    results: AblationResults, height: float, sharex: bool = False
) -> tuple[matplotlib.figure.Figure, Sequence[matplotlib.axes.Axes]]:
    columns = min(PANELS, len(results.budgets))
    rows = math.ceil(len(results.budgets) / columns)
    figure = matplotlib.figure.Figure(
        figsize=(max(4.6, 3.4 * columns), height * rows), layout="constrained"
    )
    panels = figure.subplots(rows, columns, sharex=sharex, sharey=True, squeeze=False).ravel()
    for axes in panels[len(results.budgets) :]:
        axes.remove()
    return figure, list(panels[: len(results.budgets)])


def _legend(figure: matplotlib.figure.Figure, axes: matplotlib.axes.Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        # A 9 pt character is about 0.08 inch wide at most, a handle with its gaps as much as seven.
        fit = int(figure.get_size_inches()[0] / 0.08 / (max(map(len, labels)) + 7))
        columns = max(1, min(len(labels), fit))
        figure.legend(handles, labels, loc="outside upper left", ncols=columns)


def _slant(axes: matplotlib.axes.Axes, rows: Sequence[object]) -> None:
    if len(rows) > 5 or sum(len(row.arm) for row in rows) > 30:
        for text in axes.get_xticklabels():
            text.set(rotation=90 if len(rows) > 8 else 30, ha="right", rotation_mode="anchor")
            text.set_va("center" if len(rows) > 8 else "baseline")


def _budget_title(budget: int, unit: str) -> str:
    return f"{budget} labelled {unit}" + ("" if budget == 1 else "s")


def _svg(figure: matplotlib.figure.Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
