"""Tables of volumes built from planes, in the layout of the published ones: one a set of views."""

import csv
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from jaxmedgen.data.planes import VIEWS
from jaxmedgen.experiments.reconstruction.scoring import UncertaintyScore, VolumeScore
from jaxmedgen.train.environment import write_json

Scores = Mapping[str, Mapping[tuple[int, ...], Sequence[VolumeScore]]]
"""``scores[model][views]``: every case, those of all folds and seeds together."""

_DIGITS = {"dice": 2, "hd": 2, "hd95": 2, "rvd": 2, "bpd": 1, "ofd": 1, "hc": 1}


def view_names(views: Sequence[int]) -> str:
    """``axial+sagittal``; of no set in particular, those that each case has."""
    return "+".join(VIEWS[view] for view in sorted(views)) or "those given"


def mean_deviation(scores: Sequence[VolumeScore], metric: str) -> str:
    """``mean ± SD`` over cases; NaN (a size of an empty mask) is left out."""
    values = np.array([getattr(score, metric) for score in scores], np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return "-"
    digits = _DIGITS[metric]
    return f"{values.mean():.{digits}f} ± {values.std(ddof=min(1, len(values) - 1)):.{digits}f}"


def published_layout(scores: Scores, sets: Sequence[tuple[int, ...]]) -> str:
    """Markdown: for each set of views a table of DC, HD, RVD and the biometric errors."""
    parts = []
    for views in sets:
        lines = [
            f"Views: {view_names(views)}",
            "",
            "| model | DC | HD mm | HD95 mm | RVD | BPD error mm | OFD error mm | HC error mm |",
            "|" + "---|" * 8,
        ]
        for model, found in scores.items():
            if views in found:
                cells = [mean_deviation(found[views], metric) for metric in _DIGITS]
                lines.append(f"| {model} | " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def uncertainty_table(
    scores: Mapping[str, Mapping[tuple[int, ...], Sequence[UncertaintyScore]]],
) -> str:
    """Markdown: a line a model and set of views."""
    lines = [
        "| model | views | total U | U near the boundary | Spearman with error | volume covered "
        "| BPD covered | OFD covered |",
        "|" + "---|" * 8,
    ]
    for model, found in scores.items():
        for views, cases in found.items():
            total, band, rho, *covered = (
                float(np.nanmean([float(getattr(case, name)) for case in cases]))
                for name in ("total", "band", "correlation", "volume", "bpd", "ofd")
            )
            lines.append(
                f"| {model} | {view_names(views)} | {total:.1f} | {band:.3f} | {rho:.2f} | "
                + " | ".join(f"{100 * share:.0f} %" for share in covered)
                + " |"
            )
    return "\n".join(lines)


def write_scores(
    scores: Mapping[tuple[int, ...], Sequence[VolumeScore]], path: pathlib.Path, **settings: object
) -> None:
    """Writes ``PATH.json`` (summary and cases) and ``PATH.csv`` (one line a case and view set)."""
    names = ("case", *_DIGITS)
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("views", *names))
        for views, cases in scores.items():
            for case in cases:
                writer.writerow([view_names(views), *(getattr(case, name) for name in names)])
    content = {
        view_names(views): {
            metric: _finite(np.mean([getattr(case, metric) for case in cases]))
            for metric in _DIGITS
        }
        for views, cases in scores.items()
    }
    write_json(path.with_suffix(".json"), {"settings": settings, "mean": content})


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
