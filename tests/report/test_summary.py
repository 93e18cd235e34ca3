"""The answer says what the numbers support, and no more."""

import dataclasses
import io
import math

import numpy as np
import pytest
import rich.console

from jaxmedgen.metrics import statistics
from jaxmedgen.report import summary as summary_module


def test_clear_gain_is_found(results):
    found = summary_module.summarise(results)
    row = found.find("affine", 2)
    assert row.difference.interval.mean == pytest.approx(0.1, abs=0.005)
    assert row.difference.interval.count == 10 and row.seeds == 3
    assert row.significant and row.difference.effect_size == 1
    assert not found.find("gan", 2).significant
    assert found.find("none", 2).difference is None and found.find("none", 2).p_holm is None
    assert found.comparisons == 4
    assert "With 2 labelled cases, affine raised mean foreground Dice" in found.answer
    assert "n = 10 test cases, 3 seeds per arm" in found.answer
    assert "gan" not in found.answer


def test_cases_of_one_patient_count_once(results):
    """Two sessions of each of five patients: their mean is the independent unit."""
    names = {case: f"sub-{i // 2}_ses-{i % 2}" for i, case in enumerate(results.cases)}
    runs = [
        dataclasses.replace(run, scores={names[case]: s for case, s in run.scores.items()})
        for run in results.runs
    ]
    found = summary_module.summarise(dataclasses.replace(results, runs=tuple(runs)))
    row, each = found.find("affine", 2), summary_module.summarise(results).find("affine", 2)
    assert row.difference.interval.count == 5 and len(row.case_scores) == 10
    assert row.score.mean == pytest.approx(each.score.mean)
    pairs = np.reshape(each.difference.differences, (5, 2)).mean(1)
    np.testing.assert_allclose(row.difference.differences, pairs)
    assert "n = 5 test patients" in found.answer
    assert any("10 test cases are of 5 patients" in note for note in found.notes)


def test_budgets_of_patients_are_told(results):
    found = summary_module.summarise(dataclasses.replace(results, unit="patient"))
    assert "With 2 labelled patients, affine raised" in found.answer
    assert any("count patients; all scans of a patient are labelled" in n for n in found.notes)


def test_correction_covers_the_page(results):
    found = summary_module.summarise(results)
    compared = [row for row in found.rows if row.difference]
    raw = [row.difference.p_value for row in compared]
    np.testing.assert_allclose([row.p_holm for row in compared], statistics.holm(raw))


def test_no_difference_is_said(make):
    found = summary_module.summarise(make(gains={"none": 0.0, "gan": 0.0}))
    assert found.answer.startswith("No arm differed significantly from the reference (none) at any")


def test_harm_is_said(make):
    found = summary_module.summarise(make(gains={"none": 0.0, "gan": -0.1}))
    assert "significantly worse: gan" in found.answer
    assert "raised" not in found.answer


def test_too_few_cases_cannot_be_significant(make):
    found = summary_module.summarise(make(cases=4))
    assert not any(row.significant for row in found.rows)
    assert any("smallest possible corrected p-value is 0.500" in note for note in found.notes)
    assert not any("smallest" in n for n in summary_module.summarise(make(cases=12)).notes)


def test_one_case_one_seed_one_arm(make):
    single = make(cases=1, seeds=(0,), gains={"none": 0.0}, budgets=(2,))
    found = summary_module.summarise(single)
    assert found.answer.startswith("Nothing to compare")
    assert found.rows[0].score.low == found.rows[0].score.mean
    pair = summary_module.summarise(make(cases=1, seeds=(0,), budgets=(2,)))
    assert pair.find("affine", 2).p_holm == 1.0
    assert "with 2 labelled cases" in pair.answer


def test_missing_runs_are_noted(results):
    runs = [r for r in results.runs if (r.arm, r.budget) != ("gan", 8)]
    runs = [r for r in runs if (r.arm, r.budget, r.seed) != ("none", 2, 2)]
    found = summary_module.summarise(dataclasses.replace(results, runs=tuple(runs)))
    assert found.find("gan", 8) is None
    (note,) = found.notes
    assert "none/2 labels (2 of 3 seeds)" in note and "gan/8 labels (0 of 3 seeds)" in note
    planned = dataclasses.replace(results, runs=tuple(runs), budgets_of={"gan": (2,)})
    (note,) = summary_module.summarise(planned).notes
    assert "none/2 labels" in note and "gan/8" not in note
    without = [r for r in results.runs if r.arm != "none"]
    found = summary_module.summarise(dataclasses.replace(results, runs=tuple(without)))
    assert all(row.difference is None for row in found.rows)
    with pytest.raises(ValueError, match="nothing to report"):
        summary_module.summarise(dataclasses.replace(results, runs=()))


def test_excluded_class_leaves_the_case_mean(results):
    run = results.runs[0]
    scores = {c: {n: dict(v) for n, v in s.items()} for c, s in run.scores.items()}
    scores["case_0"]["lung"]["dice"] = math.nan
    changed = dataclasses.replace(results, runs=(dataclasses.replace(run, scores=scores),))
    matrix = summary_module.score_matrix(changed, "none", 2)
    assert matrix[0, 0] == scores["case_0"]["heart"]["dice"]
    assert math.isnan(summary_module.score_matrix(changed, "none", 2, "dice", "lung")[0, 0])


def test_printed(results):
    console = rich.console.Console(file=io.StringIO(), width=120)
    found = summary_module.summarise(results)
    summary_module.print_summary(found, console)
    text = console.file.getvalue()
    assert "affine" in text and "reference" in text and "1.5 min" in text
    assert found.answer.split(";")[0][:60] in text
