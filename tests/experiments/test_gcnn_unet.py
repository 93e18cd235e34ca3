"""The claims of the group U-Net's reproduction, read off made-up scores; its tests' poses."""

import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.experiments.arms import ArmInputs
from jaxmedgen.experiments.reproductions.gcnn import parts, pose, sizes, textures, truncated
from jaxmedgen.experiments.reproductions.record import Options
from jaxmedgen.report.results import AblationResults, Run


def results(arms, budgets, seeds, cases, dice):
    """Made-up results: ``dice(arm, budget, seed, case)``."""
    runs = [
        Run(arm, n, seed, 1.0, 0.0, {c: {"bar": {"dice": dice(arm, n, seed, c)}} for c in cases})
        for arm in arms
        for n in budgets
        for seed in range(seeds)
    ]
    return AblationResults(
        title="",
        dataset="",
        class_names=("background", "bar"),
        spacing=(1.0,) * 3,
        arms={arm: "" for arm in arms},
        reference_arm=next(iter(arms)),
        budgets=budgets,
        seeds=tuple(range(seeds)),
        runs=tuple(runs),
    )


def test_pose_tests_hold_the_same_volumes_turned():
    source = pose.poses((16, 16, 16), 0, 8)
    names = source.info.case_names
    assert len(names) == pose.VOLUMES * 25 == len(set(names))
    record = source[0]
    for g, matrix in enumerate(pose.TURNED, 1):
        turned = source[names.index(f"turned-0-{g}")]
        # Where voxel p of the canonical volume has gone: g p about the centre.
        where = np.argwhere(record["label"] > 0)
        moved = np.rint((where - 7.5) @ matrix.T + 7.5).astype(int)
        np.testing.assert_array_equal(
            turned["label"][tuple(moved.T)], record["label"][tuple(where.T)]
        )
        np.testing.assert_array_equal(
            turned["image"][tuple(moved.T)], record["image"][tuple(where.T)]
        )


TURNED = {"baseline": 0.3, "turns": 0.5, "turns-4x": 0.69, "octahedral": 0.7}


@pytest.mark.parametrize("exact", [True, False])
def test_pose_claims(exact):
    def dice(arm, budget, seed, case):
        kind, volume, *_ = case.split("-")
        value = {"canonical": 0.7, "turned": TURNED[arm], "random": 0.2}[kind]
        broken = 0.002 * (not exact and seed == 1 and kind == "turned")
        return value - broken + 0.01 * int(volume)

    cases = [f"{kind}-{v}" for kind in ("canonical", "random") for v in range(3)]
    cases += [f"turned-{v}-{g}" for v in range(3) for g in (1, 2)]
    found = results(pose.ARMS, (pose.BUDGET,), 2, cases, dice)
    kept, lost, turns, longer = pose.claims(found)
    assert kept.holds is exact and kept.measured == pytest.approx(0 if exact else 2e-3)
    assert lost.holds and lost.measured == pytest.approx(0.4, abs=2e-3)
    assert turns.holds and turns.measured == pytest.approx(0.51, abs=2e-3)
    assert longer.holds and longer.measured == pytest.approx(-0.01)
    assert "| octahedral" in pose.table(found, {"octahedral": [1e-6]})


def test_size_claims():
    gain = {("c4-features", 4): -0.1, ("c4-features", 16): 0.05, ("c4-parameters", 4): 0.06}

    def dice(arm, budget, seed, case):
        return 0.5 + 0.01 * int(case) + gain.get((arm, budget), 0.03 * (arm == "c4-parameters"))

    found = results(sizes.ARMS, (4, 8, 16), 2, ("0", "1", "2"), dice)
    few, middle, many, parameters, shrinks = sizes.claims(found)
    assert (few.holds, middle.holds, many.holds) == (True, True, False)
    assert parameters.holds and parameters.measured == pytest.approx(0.06)
    assert shrinks.holds and shrinks.measured == pytest.approx(0.03)


def test_texture_claims():
    def outcomes(**accuracies):
        return {arm: textures.Outcome((accuracies[arm],), 50, 1.0) for arm in textures.ARMS}

    values = {"plain": 0.7, "sse": 0.85, "ssb": 0.75, "s1": 0.6, "s24": 0.65, "g": 0.7}
    found = textures.claims(outcomes(**values))
    assert [claim.holds for claim in found] == [True, False, True]
    assert [claim.measured for claim in found] == pytest.approx([0.15, 0.05, 0.05])


def test_arms_keep_the_size_of_the_study(tmp_path):
    config = parts.settings(Options(tmp_path), net__base_filters="12", data__train="1")
    data = load_config("gcnn_unet:cpu", {"data.shape": "(16, 16, 16)"}).data
    inputs = ArmInputs(config, build_sources(data).train, tmp_path, 0, tmp_path)
    for arm, changed in {**truncated.ARMS, **pose.ARMS}.items():
        changes = changed.prepare(inputs).changes
        assert changes["steps"] == config.steps * (pose.LONGER if arm == "turns-4x" else 1)
        assert changes["augment.group"] == {"turns": "O", "turns-4x": "O"}.get(
            arm, "C4" if arm == "baseline-turned" else ""
        )
        if arm != "steerable":
            assert changes["net"]["base_filters"] == 12
