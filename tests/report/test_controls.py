import dataclasses

import numpy as np
import pytest

from jaxmedgen.experiments.arms import select_arms
from jaxmedgen.report.controls import added_by_arms, missing_controls, sentence
from jaxmedgen.report.page import write_report
from jaxmedgen.report.summary import summarise


@pytest.fixture(scope="module")
def study(make):
    """Images of a generator with `light`, which gains all of it."""
    gains = {"none": 0.0, "light": 0.2, "spade": 0.19, "paddit": 0.05}
    controls = {"spade": "light", "paddit": "none", "absent": "gone"}
    return dataclasses.replace(make(gains=gains, budgets=(2,)), controls=controls)


def test_a_model_is_compared_with_its_training_without_it(study):
    """And not again with the reference; the answer says both."""
    (added,) = added_by_arms(study)
    assert (added.arm, added.control, added.budget) == ("spade", "light", 2)
    np.testing.assert_allclose(added.difference.interval.mean, -0.01, atol=0.005)
    summary = summarise(study)
    assert summary.added == (added,)
    assert "spade (difference +0.1" in summary.answer
    assert "without what the arm adds (Dice, 95 % CI, not corrected): spade \N{MINUS SIGN}0.0" in (
        summary.answer
    )
    assert "over light." in summary.answer


def test_the_page_has_a_table_of_what_arms_add(study, tmp_path):
    page = write_report(study, tmp_path / "report.html").read_text()
    assert "What the arms add" in page and "Without what it adds" in page
    plain = dataclasses.replace(study, controls={})
    assert "What the arms add" not in write_report(plain, tmp_path / "report.html").read_text()


def test_many_comparisons_are_counted(study):
    (added,) = added_by_arms(study)
    gain = dataclasses.replace(
        added.difference, interval=dataclasses.replace(added.difference.interval, low=0.01)
    )
    better = dataclasses.replace(added, arm="best", difference=gain)
    text = sentence((added,) * 6 + (better,))
    assert "1 of 7 gain (95 % interval above 0, not corrected): best." in text


def test_missing_controls_are_named():
    arms = select_arms(["none", "spade", "labelvae", "paddit", "paddit+classic", "light+cutout"])
    controls = {name: arm.control for name, arm in arms.items()}
    note = missing_controls(tuple(arms), controls)
    light = "the arm light is the same training without what spade and labelvae add; "
    assert note.startswith(light)
    assert note.endswith("Add light and classic to the arms to tell them apart.")
    assert missing_controls((*arms, "light", "classic"), controls) == ""


def test_symmetric_networks_are_compared_with_their_family_without_symmetry():
    arms = select_arms(["none", "c4", "octahedral", "gunet-d4", "gunet", "steerable"])
    controls = {name: arm.control for name, arm in arms.items()}
    assert controls == dict.fromkeys(arms, "") | dict.fromkeys(
        ("c4", "octahedral", "gunet-d4"), "gunet"
    )
    note = missing_controls(("none", "c4"), controls)
    assert note.startswith("the arm gunet is the same training without what c4 adds: part or all")
