"""The page's pictures: worst and best cases, one case under every arm, training samples."""

import base64
import math
import statistics
from collections.abc import Sequence
from typing import Any

from jaxmedgen.report import pictures
from jaxmedgen.report.results import AblationResults, Overlay

CASES_SHOWN = 3
"""Worst and best cases on the page, each."""

SAMPLES_SHOWN = 4
"""Augmented samples on the page, an arm."""


def overlay_groups(results: AblationResults) -> list[dict[str, Any]]:
    """Groups of cards: worst and best cases, and one case under every arm.

    Empty if there are no overlays with a score.
    """
    ranked = sorted(
        (o for o in results.overlays if math.isfinite(o.score)), key=lambda o: (o.score, o.case)
    )
    if not ranked:
        return []
    shown = min(CASES_SHOWN, max(1, len(ranked) // 2))
    groups = [{"title": "Worst cases", "cards": [_card(o, results) for o in ranked[:shown]]}]
    if len(ranked) > 1:
        best = [_card(o, results) for o in ranked[::-1][:shown]]
        groups.append({"title": "Best cases", "cards": best})
    same = _same_case(results, ranked)
    if len(same) > 1:
        title = f"One case under every arm: {same[0].case}, {same[0].budget} labels"
        groups.append({"title": title, "cards": _comparison(same, results)})
    return groups


def _same_case(results: AblationResults, ranked: Sequence[Overlay]) -> list[Overlay]:
    """The case of median score among those shown under most arms, in the arms' order."""
    groups: dict[tuple, dict[str, Overlay]] = {}
    for overlay in ranked:
        groups.setdefault((overlay.budget, overlay.seed, overlay.case), {})[overlay.arm] = overlay
    most = max(len(group) for group in groups.values())
    full = [group for group in groups.values() if len(group) == most]
    full.sort(key=lambda group: statistics.mean(o.score for o in group.values()))
    chosen = full[len(full) // 2]
    return [chosen[arm] for arm in results.arms if arm in chosen]


def _card(overlay: Overlay, results: AblationResults) -> dict[str, Any]:
    picture = pictures.three_planes(
        overlay.image, overlay.label, overlay.prediction, spacing=results.spacing
    )
    where = f"{overlay.arm}, {overlay.budget} labels, seed {overlay.seed}"
    return {
        "picture": data_uri(pictures.png_bytes(picture), "image/png"),
        "case": overlay.case,
        "where": where,
        "score": f"Dice {overlay.score:.3f}",
        "alt": (
            f"Image, reference, prediction and errors of test case {overlay.case} ({where}): "
            f"mean foreground Dice {overlay.score:.3f}"
        ),
    }


def _comparison(same: Sequence[Overlay], results: AblationResults) -> list[dict[str, Any]]:
    """One case as columns: image, reference and the prediction of every arm."""
    first = same[0]
    columns = pictures.plane_columns(
        first.image,
        [None, first.label, *(overlay.prediction for overlay in same)],
        spacing=results.spacing,
    )
    names = ["image", "reference", *(overlay.arm for overlay in same)]
    scores = ["", "", *(f"Dice {overlay.score:.3f}" for overlay in same)]
    return [
        {
            "picture": data_uri(pictures.png_bytes(column), "image/png"),
            "case": name,
            "where": "",
            "score": score,
            "alt": f"Test case {first.case}, {name} {score}".strip(),
        }
        for column, name, score in zip(columns, names, scores)
    ]


def sample_strips(results: AblationResults) -> list[dict[str, str]]:
    """One strip of augmented training samples an arm."""
    found = []
    for arm, pairs in results.samples.items():
        planes = [
            pictures.three_planes(image, label, spacing=results.spacing, height=120)
            for image, label in pairs[:SAMPLES_SHOWN]
        ]
        if planes:
            picture = pictures.montage(planes, columns=len(planes), gap=12)
            found.append(
                {"arm": arm, "picture": data_uri(pictures.png_bytes(picture), "image/png")}
            )
    return found


def data_uri(content: bytes, kind: str) -> str:
    """A file of MIME type `kind` as an address that needs no request."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
