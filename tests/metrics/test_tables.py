"""Aggregation: means, counts of excluded and missed structures, files."""

import csv
import json
import math

import numpy as np
import pytest
import rich.console

from jaxmedgen.metrics import segmentation, tables

NAMES = ("background", "heart", "lung")


def _cases():
    reference = np.zeros((8, 8, 8), np.int32)
    reference[1:4, 1:4, 1:4] = 1
    reference[5:7, 5:7, 5:7] = 2
    half = np.where(reference == 2, 0, reference)
    pairs = {
        "perfect": (reference, reference),
        "missed": (half, reference),
        "spurious": (reference, half),
        "absent": (half, half),
    }
    return {
        name: segmentation.evaluate_case(prediction, truth, NAMES, (1.0, 1.0, 2.0))
        for name, (prediction, truth) in pairs.items()
    }


def _find(rows, name, metric):
    (row,) = [r for r in rows if (r.class_name, r.metric) == (name, metric)]
    return row


def test_counts_and_means():
    rows = tables.aggregate(_cases())
    lung = _find(rows, "lung", "dice")
    assert (lung.scored, lung.excluded, lung.missed, lung.spurious) == (3, 1, 1, 1)
    assert lung.mean == pytest.approx(1 / 3)
    assert lung.sd == pytest.approx(np.std([1, 0, 0], ddof=1))
    assert (lung.median, lung.low, lung.high) == (0, 0, 1)
    assert _find(rows, "lung", "hd95").mean == pytest.approx(2 / 3 * math.sqrt(64 + 64 + 256))
    foreground = _find(rows, tables.FOREGROUND, "dice")
    assert foreground.mean == pytest.approx(np.mean([1, 0.5, 0.5, 1]))
    assert foreground.scored == 4


def test_class_in_no_case_is_a_dash():
    cases = {"absent": _cases()["absent"]}
    row = _find(tables.aggregate(cases), "lung", "dice")
    assert math.isnan(row.mean) and row.excluded == 1
    assert tables.format_mean(row) == "—"


def test_files(tmp_path):
    cases = _cases()
    with tables.write_cases_csv(cases, tmp_path / "cases.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 8
    assert lines[1]["case"] == "perfect" and float(lines[1]["dice"]) == 1
    assert lines[7]["class"] == "lung" and lines[7]["dice"] == ""
    with tables.write_csv(tables.aggregate(cases), tmp_path / "summary.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 18
    path = tables.write_json(cases, tmp_path / "metrics.json", {"spacing": [1, 1, 2]})
    content = json.loads(path.read_text())
    assert content["cases"]["absent"]["lung"]["dice"] is None
    assert content["summary"][0]["class_name"] == tables.FOREGROUND
    assert content["settings"] == {"spacing": [1, 1, 2]}


def test_terminal_table_fits_80_columns():
    console = rich.console.Console(width=80, record=True, file=open("/dev/null", "w"))
    console.print(tables.rich_table(tables.aggregate(_cases()), "Test cases"))
    text = console.export_text()
    assert "0.333" in text and "0.577" in text and "HD95" in text and "missed" in text
    assert "…" not in text


def test_errors():
    with pytest.raises(ValueError, match="no cases"):
        tables.aggregate({})
    cases = _cases()
    with pytest.raises(ValueError, match="'odd' scores classes"):
        tables.aggregate({**cases, "odd": {"heart": cases["absent"]["heart"]}})
