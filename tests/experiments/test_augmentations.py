"""The claims of the augmentation study, read off made-up scores."""

import dataclasses

import numpy as np
import pytest

from jaxmedgen.experiments.arms import ARMS as KNOWN
from jaxmedgen.experiments.reproductions import augmentations, augmentations_volumes
from jaxmedgen.experiments.reproductions.record import Options
from jaxmedgen.report.summary import summarise
from tests.experiments.made_up import study

GAINS = {  # arm: gain on pose, intensity, both
    "nnunet3d": (0.1, 0.1, 0.1),
    "nnunet3d+moex_pono": (0.1, 0.1, 0.05),
    "deformation": (0.05, 0.01, 0.03),
    "intensification": (0.0, 0.02, 0.01),
    "mixup": (0.0, 0.0, -0.02),
}


def _results(arms=augmentations.ARMS):
    def scores(arm, budget, seed):
        gains = zip(augmentations.GROUPS, GAINS.get(arm, (0.0, 0.0, 0.0)))
        return {
            f"{group}-{case:05d}": {"lesion": {"dice": 0.5 + 0.02 * case + 0.01 * seed + gain}}
            for group, gain in gains
            for case in range(6)
        }

    return study(arms, scores, ("lesion",))


def test_claims_are_read_group_by_group():
    claims = {claim.name: claim for claim in augmentations._claims(_results())}
    holds = {name: claim.holds for name, claim in claims.items()}
    assert holds == {
        "nnunet3d over none, both shifts": True,
        "nnunet3d+moex_pono over none, both shifts": False,
        "deformation over none, pose shift": True,
        "deformation against none, intensity shift": True,
        "intensification over none, intensity shift": False,
        "intensification against none, pose shift": True,
        "mixup against none, both shifts": False,
        "cutmix against none, both shifts": True,
        "moex_in against none, both shifts": True,
        "moex_pono against none, both shifts": True,
    }
    claim = claims["deformation over none, pose shift"]
    assert claim.measured == pytest.approx(0.05)
    assert claim.interval == pytest.approx((0.05, 0.05))


def test_the_table_has_a_row_an_arm_and_all_arms_are_known():
    lines = augmentations._table(_results()).splitlines()
    assert len(lines) == 2 + len(augmentations.ARMS)
    assert next(x for x in lines if x.startswith("| deformation")).count("+0.0") >= 3
    assert lines[2].endswith("|  |  |")


def test_the_table_tells_generalisation_gap_and_calibration_where_they_were_measured():
    results = _results()
    runs = tuple(dataclasses.replace(r, training_dice=0.9, ece=0.0625) for r in results.runs)
    table = augmentations._table(dataclasses.replace(results, runs=runs))
    test = 0.5 + 0.02 * 2.5 + 0.01 * np.mean(results.seeds)
    assert f"| {0.9 - test:.3f} | 0.062 |" in table.splitlines()[2]


def test_all_arms_are_known():
    assert set(augmentations.ARMS) <= set(KNOWN)


def test_volumes_ask_the_claims_of_their_own_arms(monkeypatch, tmp_path):
    asked = {}

    def run(options, *, arms, seeds, **_):
        asked.update(options.overrides, arms=arms, seeds=seeds)
        results = _results(arms)
        return results, summarise(results)

    monkeypatch.setattr(augmentations.study, "run", run)
    found = augmentations_volumes.reproduce(Options(tmp_path, overrides={"steps": "7"}))
    assert asked["data.shape"] == "24,24,24" and asked["steps"] == "7" and asked["seeds"] == 5
    assert asked["measure_fit"] == "True"
    assert [claim.holds for claim in found.claims] == [
        claim.holds for claim in augmentations._claims(_results())
    ]
    assert "affine" not in asked["arms"] and "| cutmix |" in found.table
