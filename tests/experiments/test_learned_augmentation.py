import numpy as np

from jaxmedgen.experiments.arms import select_arms
from jaxmedgen.experiments.reproductions import learned_augmentation as claims
from jaxmedgen.experiments.reproductions.record import Options
from tests.experiments.made_up import study

CASES = tuple(f"{group}-{k}" for group in claims.GROUPS for k in range(4))


def results(gains):
    """Made-up scores: 0.5, with a little of each case, and an arm's gain."""

    def scores(arm, budget, seed):
        return {
            case: {"lesion": {"dice": 0.5 + gains.get(arm, 0.0) + 0.001 * k}}
            for k, case in enumerate(CASES)
        }

    def generator_seconds(arm):
        return 30.0 if arm in claims.LEARNED else 0.0

    return study(
        claims.ARMS, scores, ("lesion",), (claims.BUDGET,), generator_seconds=generator_seconds
    )


def test_questions_are_answered_by_the_scores():
    gains = {"nnunet3d": 0.2, "labelvae": 0.1, "spade": 0.05, "paddit": -0.1}
    gains |= {"paddit+nnunet3d": 0.25, "itvae-mixed+nnunet3d": 0.15}
    asked = {c.name: c for c in claims.questions(results(gains))}
    assert asked["best learned arm (labelvae) over none"].holds
    share = asked["share of the 11 learned arms that gain over none"]
    np.testing.assert_allclose(share.measured, 2 / 11)
    assert not share.holds
    assert not asked["best learned arm (labelvae) over nnunet3d"].holds
    assert asked["paddit+nnunet3d over nnunet3d alone"].holds
    assert not asked["itvae-mixed+nnunet3d over nnunet3d alone"].holds
    table = claims.arm_table(results(gains))
    assert "| labelvae | 0.602 | 0.606 | 0.610 | +0.100 [+0.100, +0.100] | 30 | 10 |" in table


def test_why_images_do_not_help_is_said_where_none_does(tmp_path):
    def explained(gains, **overrides):
        options = Options(tmp_path, overrides=overrides)
        return claims.explained(claims.questions(results(gains)), options)

    worse = {arm: -0.1 for arm in (*claims.IMAGES, *claims.JOINED)}
    assert explained(worse) == (claims.NO_HELP,)
    assert explained({**worse, "spade": 0.1}) == ()
    assert explained(worse, steps="20") == ()
    assert not any(text.startswith("Why added images") for text in claims.NOTES)


def test_every_arm_is_one_of_the_study():
    chosen = select_arms(claims.ARMS)
    assert tuple(chosen) == claims.ARMS
    assert {"deformation", *claims.LEARNED} < set(chosen)
