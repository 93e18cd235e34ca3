"""The claims of the group U-Net's reproduction, read off made-up scores; the scores behind them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.phantoms.rotated_lesions import RotatedLesions
from jaxmedgen.experiments.arms import ArmInputs
from jaxmedgen.experiments.reproductions.gcnn import parts, pose, sizes, textures, truncated
from jaxmedgen.experiments.reproductions.record import Options
from jaxmedgen.ops.groups import act_on_image
from tests.experiments.made_up import study


def results(arms, budgets, seeds, cases, dice):
    """Made-up results: ``dice(arm, budget, seed, case)``."""

    def scores(arm, n, seed):
        return {case: {"bar": {"dice": dice(arm, n, seed, case)}} for case in cases}

    return study(arms, scores, ("bar",), budgets, seeds)


def test_dice_by_turn_sees_what_a_network_makes_of_turned_volumes():
    record = RotatedLesions(1, (16, 16, 16), pose="canonical")[0]
    truth = jax.nn.one_hot(record["label"], 3)[None]

    def knows_one_pose(x):  # the canonical volume's segmentation, whatever it is shown
        return truth

    def knows_all(x):
        turned = [act_on_image(jnp.asarray(record["image"])[None], m) for m in pose.GROUP.matrices]
        (g,) = [g for g, y in enumerate(turned) if jnp.array_equal(x, y)]
        return act_on_image(truth, pose.GROUP.matrices[g])

    scores = pose.dice_by_turn(knows_one_pose, record)
    assert scores.shape == (24, 2)
    assert (scores[0] == 1).all() and (scores[1:, 0] < 1).all() and scores[:, 1].min() < 1
    assert (pose.dice_by_turn(knows_all, record) == 1).all()

    def confuses_kinds(x):
        return truth[..., jnp.array([0, 2, 1])]

    kinds, lesions = pose.dice_by_turn(confuses_kinds, record)[0]
    assert kinds == 0 and lesions == 1


TURNED = {
    "baseline": 0.3,
    "turns": 0.5,
    "turns-4x": 0.69,
    "octahedral": 0.7,
}


@pytest.mark.parametrize("exact", [True, False])
def test_pose_claims(exact):
    volumes = 0.01 * np.arange(3)
    scores = {
        arm: {
            "canonical": 0.7 + volumes * np.ones((2, 1)),
            "turned": dice + volumes - np.array([[0.0], [0.0 if exact else 0.002]]),
            "resampled": 0.5 + volumes * np.ones((2, 1)),
            "random": 0.2 + volumes * np.ones((2, 1)),
            "found": 0.9 + volumes * np.ones((2, 1)),
        }
        for arm, dice in TURNED.items()
    }
    kept, lost, turns, longer = pose.claims(scores)
    assert kept.holds is exact and kept.measured == pytest.approx(0 if exact else 2e-3)
    assert lost.holds and lost.measured == pytest.approx(0.4, abs=2e-3)
    assert turns.holds and turns.measured == pytest.approx(0.51, abs=2e-3)
    assert longer.holds and longer.measured == pytest.approx(-0.01)
    table = pose.table(scores, dict.fromkeys(scores, 1e-6)).splitlines()
    assert table[-1].startswith("| octahedral") and "0.710 (0.000)" in table[-1]
    assert "| 0.200 (0.000) |" in table[-1], "lost where volumes are resampled at any rotation"


def test_volumes_are_resampled_about_their_centre():
    record = RotatedLesions(1, (16, 16, 16), pose="canonical")[0]
    quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    image, label = pose.resampled(record, quarter)
    np.testing.assert_allclose(image[0, ..., 0], np.rot90(record["image"][..., 0], 1), atol=1e-5)
    np.testing.assert_array_equal(label[0], np.rot90(record["label"], 1))
    # Any rotation and its inverse give the lesions back, but for what interpolation takes.
    turn = Rotation.random(rng=np.random.default_rng(0)).as_matrix()
    there, moved = pose.resampled(record, turn)
    back = pose.resampled({"image": there[0], "label": moved[0]}, turn.T)[1][0]
    lesions = record["label"] > 0
    assert (moved[0] > 0).sum() == pytest.approx(lesions.sum(), rel=0.2)
    assert 2 * (lesions & (back > 0)).sum() / (lesions.sum() + (back > 0).sum()) > 0.8


def test_size_claims():
    gain = {("c4-features", 4): -0.1, ("c4-features", 16): 0.05, ("c4-parameters", 4): 0.06}

    def dice(arm, budget, seed, case):
        return 0.5 + 0.01 * int(case) + gain.get((arm, budget), 0.03 * (arm == "c4-parameters"))

    found = results(sizes.ARMS, (4, 8, 16), 2, ("0", "1", "2"), dice)
    few, middle, many, parameters, shrinks, *wide = sizes.claims(found)
    assert (few.holds, middle.holds, many.holds) == (True, True, False)
    assert parameters.holds and parameters.measured == pytest.approx(0.06)
    assert shrinks.holds and shrinks.measured == pytest.approx(0.03)
    # Arms with the wide head differ from the baseline by nothing here.
    assert [claim.holds for claim in wide] == [True, True, True, False, False]
    assert [claim.measured for claim in wide] == pytest.approx([0] * 5, abs=1e-9)


def test_the_note_counts_runs_that_never_name_a_kind():
    found = results(sizes.ARMS, (4, 8), 2, ("0", "1"), lambda *_: 0.5)
    silent = {"c4-features": {"bar"}, "c4-parameters": {"l_shape"}}
    runs = []
    for run in found.runs:
        dice = {k: 0.0 if k in silent.get(run.arm, ()) else 0.4 for k in sizes.KINDS}
        case = {kind: {"dice": value} for kind, value in dice.items()}
        runs.append(dataclasses.replace(run, scores={"0": case, "1": case}))
    note = sizes._note(dataclasses.replace(found, runs=tuple(runs)))
    assert "0 of baseline, 4 of c4-features, 4 of c4-parameters, 0 of c4-features-wide" in note


def test_texture_claims():
    def outcomes(**accuracies):
        return {arm: textures.Outcome((accuracies[arm],), 50, 1.0) for arm in textures.ARMS}

    values = {
        "plain2": 0.7,
        "plain": 0.7,
        "sse": 0.85,
        "ssb": 0.75,
        "s1": 0.6,
        "s24": 0.65,
        "g": 0.7,
    }
    found = textures.claims(outcomes(**values))
    assert [claim.holds for claim in found] == [True, False, True]
    assert [claim.measured for claim in found] == pytest.approx([0.15, 0.05, 0.05])


def test_arms_keep_the_size_of_the_study(tmp_path):
    config = parts.settings(Options(tmp_path), net__base_filters="12", data__train="1")
    data = load_config("gcnn_unet:cpu", {"data.shape": "(16, 16, 16)"}).data
    inputs = ArmInputs(config, build_sources(data).train, tmp_path, 0, tmp_path)
    for arm, changed in {**truncated.ARMS, **sizes.ARMS}.items():
        changes = changed.prepare(inputs).changes
        assert changes["augment.group"] == ("C4" if arm == "baseline-turned" else "")
        if arm != "steerable":
            assert changes["net"]["base_filters"] == 12


def test_truncated_claims_follow_the_scores():
    gains = {"c4-features": 0.02, "c4-parameters": 0.04}

    def dice(arm, n, seed, case):
        return 0.5 + (gains.get(arm, 0.0) if n == 2 else -0.1)

    made = results(tuple(truncated.ARMS), truncated.BUDGETS, 3, ("a", "b", "c", "d"), dice)
    found = truncated.claims(made)
    assert [claim.holds for claim in found] == [False, True]
    assert [claim.measured for claim in found] == pytest.approx([0.02, 0.04])
