"""Scores of a trained model of volumes from planes: what ``bin/evaluate`` writes for it."""

import pathlib

import numpy as np
from rich.console import Console
from rich.markdown import Markdown

from jaxmedgen.data.sources import Source
from jaxmedgen.experiments.reconstruction import pictures, tables
from jaxmedgen.experiments.reconstruction.scoring import (
    EVERY_SET,
    NESTED,
    Builder,
    VolumeScore,
    availability,
    score_source,
    score_uncertainty,
    stacked,
)
from jaxmedgen.metrics.uncertainty import uncertainty_map
from jaxmedgen.report.pictures import montage, save_png
from jaxmedgen.systems.base import CanBuildVolume, PlayerVariables

_SHOWN = 3


def evaluate_volumes(
    system: CanBuildVolume,
    variables: PlayerVariables,
    source: Source,
    workdir: pathlib.Path,
    console: Console,
    *,
    step: int,
) -> dict[tuple[int, ...], tuple[VolumeScore, ...]]:
    """Scores every set of views that the model was trained for, and the published ones.

    Writes ``evaluation.json``, ``evaluation.csv``, ``uncertainty.md`` (models that draw samples)
    and pictures in ``predictions/``.

    Raises:
        ValueError: no cases.
    """
    if len(source) == 0:
        raise ValueError("there are no test subjects: set config.data.test, or give --data")
    builder, known = Builder(system, variables), set(system.views)
    sets = [
        views
        for views in EVERY_SET
        if set(views) <= known and (system.handles(views) or views in NESTED)
    ]
    scores = {views: score_source(builder, source, views) for views in sets}
    tables.write_scores(scores, workdir / "evaluation", step=step)
    console.print(Markdown(tables.published_layout({"this run": scores}, sets)))
    if builder.samples:
        nested = [views for views in NESTED if set(views) <= known]
        spread = {views: score_uncertainty(builder, source, views) for views in nested}
        text = tables.uncertainty_table({"this run": spread})
        (workdir / "uncertainty.md").write_text(text + "\n")
        console.print(Markdown(text))
    cases = stacked(source)
    for i, name in enumerate(source.info.case_names[:_SHOWN]):
        kept = availability(sets[-1], cases["available"][i : i + 1])[0]
        built = builder.volumes(cases["planes"][i][None], kept[None])[0]
        truth = cases["label"][i].astype(np.float32)
        rows = [pictures.plane_row(cases["planes"][i], kept)]
        spread = None
        if builder.samples:
            spread = uncertainty_map(builder.draws(cases["planes"][i], kept))
            rows.append(pictures.uncertainty_sections(truth, built, spread))
        spacing = source.info.spacing
        surfaces = [pictures.surface(truth, spacing), pictures.surface(built, spacing, spread)]
        rows.append(montage(surfaces, columns=2))
        save_png(workdir / "predictions" / f"{name}.png", montage(rows, columns=1))
    return scores
