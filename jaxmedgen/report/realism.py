"""The report on a synthetic set: one HTML page with one section per level, JSON and CSV beside it.

Levels as in the lecture on generative models by S. Amirrajab: experts' eyes, single images, the
whole set, use. A generator that passes the second alone is not accepted.
"""

import csv
import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
from jaxtyping import Float

from jaxmedgen.report.cards import data_uri
from jaxmedgen.report.pictures import Rgb, montage, png_bytes, save_png


@dataclasses.dataclass(frozen=True)
class Measure:
    """One number of the report.

    Attributes:
        level: 2 single images, 3 whole sets, as in the report's sections.
        images: which set it describes.
        metric: name.
        value: the number.
        low: lower end of its 95 % interval; NaN where there is none.
        high: upper end.
        count: images (or pairs) behind it.
    """

    level: int
    images: str
    metric: str
    value: float
    low: float
    high: float
    count: int


LEVELS = {
    2: "Single images against the real images of the same label map",
    3: "The set as a whole",
}


@dataclasses.dataclass(frozen=True, eq=False)
class RealismReport:
    """Everything on the page.

    Attributes:
        measures: numbers of all levels and sets.
        extractor: name of the feature network.
        identifier: hash of its weights: numbers of other extractors are not comparable.
        sizes: number of images of every set.
        manifest: how the synthetic set was made, as far as it is known.
        warnings: what limits the numbers.
        settings: data range, seed and the like.
        environment: versions and device.
        samples: a row of images of every set, ``[n, *s]``.
        neighbours: synthetic images nearest to a training image, and these.
        readings: what the numbers mean together.
    """

    measures: tuple[Measure, ...]
    extractor: str
    identifier: str
    sizes: Mapping[str, int]
    manifest: Mapping[str, Any]
    warnings: tuple[str, ...]
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    samples: Mapping[str, Float[np.ndarray, " n *s"]]
    neighbours: tuple[Float[np.ndarray, " n *s"], Float[np.ndarray, " n *s"]]
    readings: tuple[str, ...] = ()

    def value(self, images: str, metric: str) -> float:
        """One number; NaN if it was not measured."""
        for measure in self.measures:
            if (measure.images, measure.metric) == (images, metric):
                return measure.value
        return math.nan


def write_realism(report: RealismReport, folder: pathlib.Path) -> pathlib.Path:
    """Writes ``realism.html``, ``.json``, ``.csv``, ``samples.png`` and ``neighbours.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = sample_rows(report.samples)
    neighbours = sample_rows(
        {"synthetic": report.neighbours[0], "nearest training": report.neighbours[1]}
    )
    save_png(folder / "samples.png", samples)
    save_png(folder / "neighbours.png", neighbours)
    content = {
        "extractor": {"name": report.extractor, "hash": report.identifier},
        "sizes": dict(report.sizes),
        "manifest": dict(report.manifest),
        "settings": dict(report.settings),
        "warnings": report.warnings,
        "readings": report.readings,
        "measures": [
            {k: _null(v) for k, v in dataclasses.asdict(m).items()} for m in report.measures
        ],
        "environment": dict(report.environment),
    }
    text = json.dumps(content, indent=1, allow_nan=False, default=str)
    (folder / "realism.json").write_text(text, encoding="utf-8")
    with (folder / "realism.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow("level images metric value low high count extractor hash".split())
        for m in report.measures:
            ends = ["" if math.isnan(v) else v for v in (m.value, m.low, m.high)]
            about = (m.count, report.extractor, report.identifier)
            writer.writerow([m.level, m.images, m.metric, *ends, *about])
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("realism.html.j2").render(
        report=report,
        levels=[(n, title, _table(report, n)) for n, title in LEVELS.items()],
        row_names=list(report.samples),
        samples=data_uri(png_bytes(samples), "image/png"),
        neighbours=data_uri(png_bytes(neighbours), "image/png"),
    )
    path = folder / "realism.html"
    path.write_text(page, encoding="utf-8")
    return path


def sample_rows(sets: Mapping[str, Float[np.ndarray, " n *s"]]) -> Rgb:
    """One row of pictures a set, all in one grey scale, volumes by their middle slice."""
    planes = grey_planes([image for images in sets.values() for image in images])
    columns, rows, start = max(len(images) for images in sets.values()), [], 0
    for images in sets.values():
        rows.append(montage(planes[start : start + len(images)], columns=columns))
        start += len(images)
    return montage(rows, columns=1)


def grey_planes(images: Sequence[np.ndarray] | np.ndarray) -> list[np.ndarray]:
    """Images ``[*s]`` as grey pictures of one scale, at least 96 pixels high."""
    planes = [_plane(np.asarray(image)) for image in images]
    low, high = np.percentile(np.concatenate([p.ravel() for p in planes]), (0.5, 99.5))
    made = []
    for plane in planes:
        share = np.clip((plane - low) / max(high - low, 1e-12), 0, 1)
        factor = max(1, math.ceil(96 / plane.shape[0]))
        made.append(np.round(255 * share).astype(np.uint8).repeat(factor, 0).repeat(factor, 1))
    return made


def _plane(image: np.ndarray) -> np.ndarray:
    while image.ndim > 2:
        image = image[image.shape[0] // 2]
    return np.nan_to_num(image.astype(np.float32))


def _table(report: RealismReport, level: int) -> dict[str, Any]:
    """Metrics down, sets across."""
    measures = [m for m in report.measures if m.level == level]
    sets = list(dict.fromkeys(m.images for m in measures))
    cells = {(m.metric, m.images): m for m in measures}
    rows = []
    for metric in dict.fromkeys(m.metric for m in measures):
        rows.append((metric, [_text(cells.get((metric, name))) for name in sets]))
    return {"sets": sets, "rows": rows}


def _text(measure: Measure | None) -> str:
    if measure is None or math.isnan(measure.value):
        return "—"
    text = f"{measure.value:.4g}"
    if not math.isnan(measure.low):
        text += f" [{measure.low:.4g}, {measure.high:.4g}]"
    return text.replace("-", "\N{MINUS SIGN}")


def _null(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
