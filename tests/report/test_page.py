"""The page is whole, self-contained and honest for large, small and incomplete ablations."""

import csv
import dataclasses
import html.parser
import json
import re

import numpy as np
import pytest

from jaxmedgen.metrics import segmentation
from jaxmedgen.report import figures, page
from jaxmedgen.report.summary import summarise


class _Checker(html.parser.HTMLParser):
    """Balanced tags, fetched addresses, images' alternative texts, anchors."""

    VOID = frozenset(("meta", "img", "br", "link", "input", "hr"))

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.alts, self.ids, self.links = [], [], [], set(), []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in self.VOID:
            self.open.append(tag)
        if "id" in attributes:
            assert attributes["id"] not in self.ids
            self.ids.add(attributes["id"])
        if tag == "a":
            self.links.append(attributes["href"])
        elif "src" in attributes or "href" in attributes:
            self.sources.append(attributes.get("src") or attributes["href"])
        if tag == "img":
            self.alts.append(attributes["alt"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def _check(text):
    checker = _Checker()
    checker.feed(text)
    assert checker.open == []
    assert all(source.startswith("data:image/") for source in checker.sources)
    assert all(len(alt) > 15 for alt in checker.alts)
    assert {link.removeprefix("#") for link in checker.links} <= checker.ids
    assert not re.search(r"url\(|@import|<script|<link", text)
    return checker


def test_the_gap_and_the_calibration_are_shown_where_they_were_measured(results):
    summary = summarise(results)
    assert "Fit and calibration" not in page.render(results, summary)
    runs = [dataclasses.replace(r, training_dice=0.95, ece=0.0123) for r in results.runs]
    measured = dataclasses.replace(results, runs=tuple(runs))
    text = page.render(measured, summary)
    _check(text)
    assert "Fit and calibration" in text and "0.0123" in text
    rows = page.fit_table(measured)
    assert len(rows) == 6
    for row in rows:
        assert row["gap"] == pytest.approx(0.95 - row["test"])


def test_page_is_whole_and_self_contained(results, tmp_path):
    path = page.write_report(results, tmp_path / "deep" / "report.html")
    text = path.read_text(encoding="utf-8")
    checker = _check(text)
    assert len(checker.alts) == 5 + 2 * 3 + 5 + 3
    assert "Test &lt;ablation&gt;" in text and "phantoms &amp; friends" in text
    summary = summarise(results)
    assert summary.answer in text
    for words in ("cannot improve a score", "bin/ablate", "abc1234", "name=adamw, rate=0.001"):
        assert words in text, words


def test_numbers_stand_beside_the_page(results, tmp_path):
    path = page.write_report(results, tmp_path / "report.html")
    content = json.loads(path.with_suffix(".json").read_text())
    summary = summarise(results)
    assert content["answer"] == summary.answer
    with path.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert float(rows[1]["difference"]) == summary.rows[1].difference.interval.mean
    assert float(rows[1]["p_holm"]) == summary.rows[1].p_holm
    assert rows[0]["difference"] == rows[0]["p_holm"] == ""
    with (tmp_path / "report_cases.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 18 * 10 * 2
    assert float(lines[0]["dice"]) == results.runs[0].scores["case_0"]["heart"]["dice"]


def test_the_same_results_give_the_same_page(results, tmp_path):
    first = page.write_report(results, tmp_path / "a.html").read_bytes()
    assert first == page.write_report(results, tmp_path / "b.html").read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        {"cases": 1, "seeds": (0,), "budgets": (2,), "gains": {"none": 0.0}},
        {"shape": (16, 12)},
        {"gains": {"none": 0.0, **{f"a_rather_long_arm_{i}": 0.01 * i for i in range(9)}}},
        {"budgets": (1, 2, 4, 8, 16)},
    ],
    ids=["single", "2d", "many arms", "many budgets"],
)
def test_other_sizes(make, options, tmp_path):
    text = page.write_report(make(**options), tmp_path / "r.html").read_text()
    _check(text)


def test_without_pictures_curves_and_settings(results, tmp_path):
    bare = dataclasses.replace(
        results,
        runs=tuple(dataclasses.replace(run, curve=()) for run in results.runs),
        overlays=(),
        samples={},
        settings={},
        environment={},
        command="",
        revision="",
    )
    text = page.write_report(bare, tmp_path / "r.html").read_text()
    checker = _check(text)
    assert len(checker.alts) == 3
    assert not checker.ids & {"pictures", "samples", "training"}


def test_missed_and_spurious_structures_are_counted(results):
    reference = np.zeros((6, 6, 6), np.int32)
    reference[1:3] = 1
    reference[4] = 2
    missed = np.where(reference == 2, 0, reference)
    names, spacing = results.class_names, results.spacing
    scores = {
        "a": segmentation.evaluate_case(missed, reference, names, spacing),
        "b": segmentation.evaluate_case(reference, missed, names, spacing),
        "c": segmentation.evaluate_case(missed, missed, names, spacing),
    }
    run = dataclasses.replace(results.runs[0], scores=scores)
    changed = dataclasses.replace(results, runs=(run,))
    expected = {"scored": 5, "missed": 1, "spurious": 1, "excluded": 1}
    assert page.empty_counts(changed, "none", 2) == expected
    assert page.empty_counts(changed, "none", 2, "heart")["missed"] == 0
    groups = {group["name"]: group["rows"][0] for group in page.class_table(changed, 2)}
    assert groups["lung"]["penalised"] == 2 and groups["lung"]["scored"] == 2
    assert groups["lung"]["means"]["dice"] == 0


def test_best_arm_is_marked_by_direction(results):
    rows = page.class_table(results, 2)[0]["rows"]
    marked = {row["arm"]: row["cells"][0]["best"] for row in rows}
    assert marked == {"none": False, "affine": True, "gan": False}
    assert not any(row["cells"][1]["best"] for row in rows)  # All equal.


def test_warnings_are_listed(results, tmp_path):
    run = dataclasses.replace(results.runs[0], warnings=("loss was not finite at step 3",))
    changed = dataclasses.replace(results, runs=(run, *results.runs[1:]))
    text = page.write_report(changed, tmp_path / "r.html").read_text()
    _check(text)
    assert "none, 2 labels, seed 0: loss was not finite at step 3" in text


def test_no_two_of_many_arms_look_alike(results):
    arms = {results.reference_arm: ""} | {f"arm {k}": "" for k in range(30)}
    styles = figures.arm_styles(dataclasses.replace(results, arms=arms, runs=(), overlays=()))
    assert len(set(styles.values())) == 31
    grey = styles[results.reference_arm][0]
    assert [arm for arm, (colour, _) in styles.items() if colour == grey] == [results.reference_arm]
