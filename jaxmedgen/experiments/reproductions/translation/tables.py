"""Tables and claims over the arms of a GenSeg experiment."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxmedgen.experiments.reproductions.record import Claim
from jaxmedgen.experiments.reproductions.translation.digits import Scores
from jaxmedgen.report.formats import over_seeds

ARMS = ("segmentation", "autoencoder", "proposed")
"""The talk's three, in the order in which they should come out."""

Rows = Mapping[str, Sequence[Scores]]
"""Scores of every seed by arm."""


def column(rows: Sequence[Scores], key: str) -> np.ndarray:
    """One measure of every seed."""
    return np.array([row[key] for row in rows], np.float64)


def order(found: Rows, name: str) -> list[Claim]:
    """The claims that each arm is better than the one before it."""
    alone, encoder, proposed = (column(found[arm], "global_dice") for arm in ARMS)
    pairs = (("proposed", "autoencoder", proposed - encoder),)
    pairs += (("autoencoder", "segmentation", encoder - alone),)
    return [
        Claim(f"{name}: {a} less {b}", "> 0", float(d.mean()), None, bool(d.mean() > 0))
        for a, b, d in pairs
    ]


def seconds(found: Rows) -> float:
    """What all trainings and their tests took."""
    return sum(scores["seconds"] for rows in found.values() for scores in rows)


def table(title: str, found: Rows) -> str:
    """Markdown: a line an arm, means (standard deviations) over seeds."""
    lines = [
        f"{title}; test images, mean (standard deviation):",
        "",
        "| arm | global soft Dice | Dice of images | removal: error | removal: AUC | minutes |",
        "|" + "---|" * 6,
    ]
    for arm, rows in found.items():
        keys = ("global_dice", "case_dice", "removal_error", "removal_auc")
        cells = [_cell(column(rows, key)) for key in keys]
        minutes = column(rows, "seconds").mean() / 60
        lines.append(f"| {arm} | " + " | ".join(cells) + f" | {minutes:.1f} |")
    return "\n".join(lines)


def _cell(values: np.ndarray) -> str:
    return "" if np.isnan(values).any() else over_seeds(values)
