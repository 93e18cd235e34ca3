import pytest

from jaxmedgen.experiments.arms import select_arms
from jaxmedgen.experiments.reproductions import symmetry_or_deformation as claims
from tests.experiments.made_up import study

CASES = [f"{group}-{k}" for group in ("pose", "intensity", "both") for k in range(4)]
GAINS = {
    "deformation": 0.2,
    "nnunet3d": 0.22,
    "itvae-naive": 0.05,
    "itvae-mixed": 0.02,
    "paddit": 0.04,
    "itvae-mixed+nnunet3d": 0.23,
    "paddit+nnunet3d": 0.21,
    "gunet": -0.1,
    "gunet-turned": 0.02,
    "c4": 0.0,
    "gunet-c4-features": -0.05,
    "gunet-d4": -0.2,
    "gunet-wide": 0.04,
    "gunet+nnunet3d": 0.1,
    "gunet-wide+nnunet3d": 0.3,
    "c4+nnunet3d": 0.25,
}


def scores(arm, budget, seed):
    """0.5 and an arm's gain, a little of each case; c4 gains more where the pose varies."""
    more = {"c4": 0.03}.get(arm, 0.0)
    return {
        case: {"lesion": {"dice": 0.5 + GAINS.get(arm, 0.0) + 0.001 * k
                          + more * (case[0] == "p") - more * (case[0] == "b")}}
        for k, case in enumerate(CASES)
    }  # fmt: skip


def test_questions_are_answered_by_the_scores():
    found = claims.questions(study(claims.ARMS, scores, ("lesion",)))
    answers = {claim.name: (claim.measured, claim.holds) for claim in found}
    expected = {
        "best symmetric network (c4) over gunet": (0.1, True),
        "best symmetric network (c4) over gunet-turned, turns in training": (-0.02, False),
        "best symmetric network (c4) over gunet-wide": (-0.04, False),
        "best learned deformation (itvae-naive) over none": (0.05, True),
        "best learned deformation (itvae-naive) over random ones (deformation)": (-0.15, False),
        "what c4 adds less what itvae-naive adds": (0.05, True),
        "itvae-mixed+nnunet3d over nnunet3d alone": (0.01, True),
        "paddit+nnunet3d over nnunet3d alone": (-0.01, False),
        "c4+nnunet3d over gunet+nnunet3d": (0.15, True),
        "c4+nnunet3d over gunet-wide+nnunet3d": (-0.05, False),
        "gain of c4 over gunet, tests of pose less those of intensity": (0.03, True),
    }
    assert set(answers) == set(expected)
    for name, (measured, holds) in expected.items():
        assert answers[name][0] == pytest.approx(measured), name
        assert answers[name][1] is holds, name


def test_every_arm_is_one_of_the_study():
    chosen = select_arms(claims.ARMS)
    assert tuple(chosen) == claims.ARMS
    assert all(chosen[arm].control == claims.PLAIN for arm in claims.NETWORKS[1:])
