import numpy as np
import pytest

from jaxmedgen.experiments.arms import select_arms
from jaxmedgen.experiments.reproductions import it_vae_augmentation as study
from jaxmedgen.experiments.reproductions import it_vae_factors as factors
from jaxmedgen.experiments.reproductions.record import Options
from tests.experiments.made_up import study as made_up


def results(gains):
    """Made-up scores of three classes: 0.5 with a little of each case, and an arm's gain."""

    def scores(arm, budget, seed):
        found = {}
        for k in range(4):
            value = {"dice": 0.5 + gains.get(arm, 0.0) + 0.001 * k}
            found[f"case{k}"] = {"brain": {"dice": 0.9}, "ventricle": value, "lesion": value}
        return found

    def generator_seconds(arm):
        return 30.0 if "vae" in arm else 0.0

    return made_up(
        study.ARMS,
        scores,
        ("brain", "ventricle", "lesion"),
        (study.LABELLED,),
        generator_seconds=generator_seconds,
    )


def test_the_order_of_the_arms_is_read_off_the_scores():
    gains = {"affine": 0.02, "itvae-naive": 0.03, "itvae-mixed": 0.04, "paddit": -0.1}
    found = results(gains)
    assert [claim.holds for claim in study.order(found)] == [False, True, True, True]
    np.testing.assert_allclose(study.order(found)[0].measured, 0.04)
    table = study.table(found)
    assert "| itvae-mixed | 0.541 (0.000) | +0.040 [+0.040, +0.040] | 0.541" in table
    assert table.endswith("| 0.900 (0.000) | 30 |")
    assert tuple(select_arms(study.ARMS)) == study.ARMS


@pytest.mark.parametrize("part", ["transformers", "digits"])
def test_tables_have_a_line_for_every_model(tmp_path, monkeypatch, part):
    """With made-up scores in place of trainings."""
    asked = []

    def measured(options, kind, folder, arms, seeds, steps):
        asked.extend((arm, seeds) for arm in arms)
        plain = dict.fromkeys(factors._COLUMNS, 0.5)
        better = plain | {"elbo": 1.5, "d_score": 0.7}
        rows = {arm: [better if arm.startswith("c-") else plain] * seeds for arm in arms}
        return type("Sources", (), {"train": range(5), "test": range(3)}), rows, 2.0

    monkeypatch.setattr(factors, "_measure", measured)
    monkeypatch.setattr(factors, "_pictures", lambda *_: {})
    options = Options(tmp_path, data="mnist")
    if part == "transformers":
        found = factors.transformer_part(options)
        assert asked[0] == ("c-vitae", 1) and len(asked) == 4
        assert found.seconds == 6.0 and not found.claims
        assert "| cpab | 1.5 | 0.5 | 0.700 |" in found.table
    else:
        found = factors.digit_part(options)
        assert asked == [(arm, factors.DIGIT_SEEDS) for arm in factors.DIGIT_ARMS]
        assert [claim.holds for claim in found.claims] == [True, False, True, True]
        assert "| 0.500 (0.000) | -139 / -141 / 0.884 |" in found.table
