"""Recorded claims: the JSON's fields, the page, the list over all results."""

import json

import numpy as np

from jaxmedgen.experiments.reproductions.record import (
    Claim,
    Part,
    Reproduction,
    collect,
    joined,
    update_page,
    write,
)

FIELDS = {"system", "command", "seeds", "seconds", "machine", "revision", "claims", "published"}


def result(holds):
    claim = Claim("a beats b", ">= 0.1", 0.2 if holds else 0.05, (0.01, 0.3), holds)
    return Reproduction(
        system="toy",
        seeds=3,
        seconds=61.0,
        claims=(claim,),
        published={"Doe 2020": {"a": 0.3, "b": [1, 2]}, "figure": "curves only"},
        table="| x |\n|---|\n| 1 |",
        pictures={"view": np.zeros((4, 4, 3), np.uint8)},
        notes=("A note.",),
    )


def test_writes_numbers_page_and_pictures(tmp_path):
    page = write(result(True), tmp_path / "results", "toy", "bin/reproduce toy")
    content = json.loads((tmp_path / "results" / "toy.json").read_text())
    assert set(content) >= FIELDS
    assert set(content["claims"][0]) == {"name", "expected", "measured", "interval", "holds"}
    assert content["claims"][0]["holds"] is True and content["seconds"] == 61
    text = page.read_text()
    assert "| a beats b | >= 0.1 | 0.200 [0.010, 0.300] | yes |" in text
    assert "A note." in text and "toy_view.png" in text
    assert (tmp_path / "results" / "toy_view.png").exists()


def test_the_list_keeps_claims_that_failed(tmp_path):
    write(result(True), tmp_path / "results", "one", "bin/reproduce one")
    write(result(False), tmp_path / "results", "two", "bin/reproduce two")
    collect(tmp_path / "results", tmp_path / "results.md")
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert sum("a beats b" in line for line in lines) == 2
    assert lines.index("## one") < lines.index("## two")
    assert "| [one](#one) | 1 of 1 |" in lines and "| [two](#two) | 0 of 1 |" in lines
    claim = "| a beats b | >= 0.1 | 0.050 [0.010, 0.300] | **no** |"
    assert lines.index(claim) > lines.index("## two")
    assert sum(line.startswith("`bin/reproduce two`, 3 seeds, 20") for line in lines) == 1
    figures = ["- Doe 2020", "  - a: 0.3", "  - b: 1, 2", "- figure: curves only"]
    assert lines[-4:] == figures


def test_pages_show_the_thresholds_of_the_last_record(tmp_path):
    page = tmp_path / "systems" / "toy.md"
    page.parent.mkdir()
    marks = "<!-- thresholds, written from the record -->", "<!-- end of thresholds -->"
    page.write_text(f"before\n\n{marks[0]}\nstale\n{marks[1]}\n\nafter\n")
    write(result(True), tmp_path, "toy", "bin/reproduce toy")
    update_page(tmp_path / "toy.json", page)
    text = page.read_text()
    assert "| a beats b | >= 0.1 | 0.200 [0.010, 0.300] | confirmed |" in text
    assert text.startswith("before") and text.endswith("after\n") and "stale" not in text
    write(result(False), tmp_path, "toy", "bin/reproduce toy")
    update_page(tmp_path / "toy.json", page)
    assert page.read_text().count("a beats b") == 1 and "**not reached**" in page.read_text()
    page.write_text("no marks\n")
    update_page(tmp_path / "toy.json", page)
    assert page.read_text() == "no marks\n"
    update_page(tmp_path / "toy.json", tmp_path / "missing.md")
    assert not (tmp_path / "missing.md").exists()


def test_parts_are_joined_in_order():
    claims = result(True).claims
    parts = [Part(2.0, claims, "| x |", notes=("One.",)), Part(3.0, claims), Part(1.0, (), "| y |")]
    found = joined(parts)
    assert (found.seconds, found.claims, found.notes) == (6.0, 2 * claims, ("One.",))
    assert found.table == "| x |\n\n| y |"
    headed = joined([parts[0], parts[2]], ("First", "Second")).table
    assert headed == "## First\n\n| x |\n\n## Second\n\n| y |"
