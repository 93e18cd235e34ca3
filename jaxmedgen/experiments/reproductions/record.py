"""What a reproduction reports, and how it is written: JSON, a Markdown table, pictures.

``NAME.json`` (published: in ``docs/results``) holds the numbers of a run as they came out, claims
that failed included; ``NAME.md`` is the same for readers, and ``docs/results.md`` collects them.
A page ``docs/systems/NAME.md`` may show the thresholds and what became of them between two marks.
"""

import dataclasses
import json
import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxmedgen.report.pictures import save_png
from jaxmedgen.train.environment import describe_environment, write_json
from jaxmedgen.train.progress import Progress


@dataclasses.dataclass(frozen=True)
class Options:
    """What ``bin/reproduce`` passes on.

    Attributes:
        workdir: for trainings; finished ones are not repeated.
        data: folder of the user's data, where an experiment needs one.
        scan: scan to segment, where an experiment needs one.
        reference: its label map.
        orientation: true voxel axes of the scan, where its header is wrong.
        parts: of the experiment that were asked for, of the ``PARTS`` that its module offers; ()
            runs those that are usual.
        overrides: ``--config.`` settings.
        progress: where to show progress.
    """

    workdir: pathlib.Path
    data: str | None = None
    scan: pathlib.Path | None = None
    reference: pathlib.Path | None = None
    orientation: str | None = None
    parts: tuple[str, ...] = ()
    overrides: Mapping[str, str] = dataclasses.field(default_factory=dict)
    progress: Progress = dataclasses.field(default_factory=Progress)


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim and its outcome.

    Attributes:
        name: what is claimed, a sentence.
        expected: what would confirm it.
        measured: the number that came out.
        interval: 95 % interval of it, or None.
        holds: whether it holds.
    """

    name: str
    expected: str
    measured: float
    interval: tuple[float, float] | None
    holds: bool


@dataclasses.dataclass(frozen=True)
class Part:
    """The outcome of one part of an experiment.

    Attributes:
        seconds: time of all its trainings and evaluations.
        claims: what was checked.
        table: Markdown.
        pictures: PNG arrays by file name without ending.
        notes: sentences.
    """

    seconds: float
    claims: tuple[Claim, ...] = ()
    table: str = ""
    pictures: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


def joined(parts: Sequence[Part], headings: Sequence[str] = ()) -> Part:
    """Several parts as one, in order.

    Args:
        parts: a picture's name occurs in one of them only.
        headings: of their tables; none by default.
    """
    tables = [part.table for part in parts if part.table]
    if headings:
        tables = [f"## {name}\n\n{part.table}" for name, part in zip(headings, parts, strict=True)]
    return Part(
        seconds=sum(part.seconds for part in parts),
        claims=tuple(claim for part in parts for claim in part.claims),
        table="\n\n".join(tables),
        pictures={name: picture for part in parts for name, picture in part.pictures.items()},
        notes=tuple(note for part in parts for note in part.notes),
    )


@dataclasses.dataclass(frozen=True)
class Reproduction:
    """The outcome of one experiment.

    Attributes:
        system: name of the system or configuration.
        seeds: number of seeds.
        seconds: time of all trainings and evaluations, the skipped ones' own time included.
        claims: what was checked.
        published: figures of the source for comparison.
        table: Markdown for the page: arms, classes, whatever shows the numbers behind the claims.
        pictures: PNG arrays by file name without ending.
        notes: what a reader must know, sentences.
    """

    system: str
    seeds: int
    seconds: float
    claims: tuple[Claim, ...]
    published: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    table: str = ""
    pictures: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


def of_part(
    system: str, seeds: int, part: Part, published: Mapping[str, Any] | None = None
) -> Reproduction:
    """An experiment that is one part, or several `joined`."""
    return Reproduction(
        system=system,
        seeds=seeds,
        seconds=part.seconds,
        claims=part.claims,
        published=published or {},
        table=part.table,
        pictures=part.pictures,
        notes=part.notes,
    )


def write(result: Reproduction, folder: pathlib.Path, name: str, command: str) -> pathlib.Path:
    """Writes ``NAME.json``, ``NAME.md`` and pictures to `folder`; returns the Markdown's path."""
    environment = describe_environment()
    machine = f"{os.cpu_count()} CPU cores ({_processor()})"
    if environment["backend"] != "cpu":
        machine = ", ".join(map(str, environment["devices"]))
    content = {
        "system": result.system,
        "command": command,
        "seeds": result.seeds,
        "seconds": round(result.seconds),
        "machine": machine,
        "revision": environment["revision"],
        "date": str(environment["started"])[:10],
        "versions": environment["versions"],
        "claims": [dataclasses.asdict(claim) for claim in result.claims],
        "published": dict(result.published),
    }
    write_json(folder / f"{name}.json", content)
    for picture, array in result.pictures.items():
        save_png(folder / f"{name}_{picture}.png", array)
    path = folder / f"{name}.md"
    path.write_text(_markdown(result, name, content))
    return path


def _processor() -> str:
    """The processor's name where the system tells, else its kind."""
    information = pathlib.Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _markdown(result: Reproduction, name: str, content: Mapping[str, Any]) -> str:
    lines = [
        f"# {name}",
        "",
        f"`{content['command']}`  ",
        f"{content['date']}, revision {content['revision']}, {content['machine']}, "
        f"{content['seconds'] / 60:.0f} min, {result.seeds} seed(s).",
        "",
        "| claim | expected | measured | holds |",
        "|---|---|---|---|",
    ]
    for claim in result.claims:
        holds = "yes" if claim.holds else "**no**"
        measured = _measured(claim.measured, claim.interval)
        lines.append(f"| {claim.name} | {claim.expected} | {measured} | {holds} |")
    if result.table:
        lines += ["", result.table.strip()]
    if result.published:
        lines += ["", "Published:", "", *_bullets(result.published)]
    for note in result.notes:
        lines += ["", note]
    for picture in result.pictures:
        lines += ["", f"![{picture}]({name}_{picture}.png)"]
    return "\n".join(lines) + "\n"


_MARKS = ("<!-- thresholds, written from the record -->", "<!-- end of thresholds -->")


def thresholds(content: Mapping[str, Any]) -> str:
    """Markdown: every threshold of a record, what was measured, and whether that confirms it."""
    lines = [
        f"Record of {content['date']}, {content['seeds']} seed(s), `{content['command']}`:",
        "",
        "| claim | threshold | measured | |",
        "|---|---|---|---|",
    ]
    for claim in content["claims"]:
        verdict = "confirmed" if claim["holds"] else "**not reached**"
        measured = _measured(claim["measured"], claim["interval"])
        lines.append(f"| {claim['name']} | {claim['expected']} | {measured} | {verdict} |")
    return "\n".join(lines)


def with_thresholds(page: str, content: Mapping[str, Any]) -> str:
    """A page's text with its table of thresholds made anew; without marks it stays as it is."""
    first, last = _MARKS
    if first not in page or last not in page:
        return page
    before, rest = page.split(first, 1)
    return f"{before}{first}\n\n{thresholds(content)}\n\n{last}{rest.split(last, 1)[1]}"


def update_page(record: pathlib.Path, page: pathlib.Path) -> None:
    """Makes the table of thresholds of a page anew from a record, where there is such a page."""
    if page.exists():
        page.write_text(with_thresholds(page.read_text(), json.loads(record.read_text())))


def _measured(value: float, interval: Sequence[float] | None) -> str:
    around = "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"
    return f"{value:.3f}{around}"


def collect(folder: pathlib.Path, page: pathlib.Path) -> None:
    """Writes `page` (``docs/results.md``): every claim of all results of `folder`.

    First how many of each experiment hold, then a section an experiment: the command, seeds and
    date, one line a claim, published figures.
    """
    contents = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    lines = [
        "# Results",
        "",
        "Every line is a claim that `bin/reproduce` checked on the machine and revision its page",
        "names; claims that failed stay in the list. Deviations over seeds in tables are those of",
        "samples; records of before 2026-11-30 divided by the number of seeds (three seeds: 18 %",
        "too small). The sheet of a system, where a page names it, is the plan of its experiment,",
        "with thresholds that were set before anything was run. A revision that ends in `-dirty`",
        "had changes that were committed later.",
        "",
        "| experiment | claims that hold |",
        "|---|---|",
    ]
    for name, content in contents.items():
        hold = sum(claim["holds"] for claim in content["claims"])
        lines.append(f"| [{name}](#{name}) | {hold} of {len(content['claims'])} |")
    for name, content in contents.items():
        seeds = f"{content['seeds']} seed" + ("s" if content["seeds"] != 1 else "")
        lines += [
            "",
            f"## {name}",
            "",
            f"`{content['command']}`, {seeds}, {content['date']}: [its page](results/{name}.md)",
            "",
            "| claim | expected | measured | holds |",
            "|---|---|---|---|",
        ]
        for claim in content["claims"]:
            shown = _measured(claim["measured"], claim["interval"])
            holds = "yes" if claim["holds"] else "**no**"
            lines.append(f"| {claim['name']} | {claim['expected']} | {shown} | {holds} |")
        if content["published"]:
            lines += ["", "Published:", "", *_bullets(content["published"])]
    page.write_text("\n".join(lines) + "\n")


def _bullets(figures: Mapping[str, Any], indent: str = "") -> list[str]:
    """Nested figures as a nested list."""
    lines = []
    for name, value in figures.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}- {name}", *_bullets(value, indent + "  ")]
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            lines.append(f"{indent}- {name}: {shown}")
    return lines
