"""What the claims of HCVAE conclude from scores."""

import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.phantoms.fetal_skull import FetalSkull
from jaxmedgen.experiments.reconstruction.scoring import EVERY_SET, NESTED, UncertaintyScore
from jaxmedgen.experiments.reconstruction.scoring import VolumeScore as Score
from jaxmedgen.experiments.reproductions import hcvae
from jaxmedgen.experiments.reproductions.skulls.models import Model, Run
from tests.train.toys import Regression


def fake(name, dice, hd, totals=(10.0, 11.0, 12.0), seeds=3, folds=False, cases=8):
    """A model with Dice and HD by number of views, and cases that differ by a little."""
    runs = []
    for seed in range(seeds):
        jitter = 0.01 * np.random.default_rng(seed).standard_normal(cases)
        scores = {
            views: [
                Score(f"{seed if folds else 0}-{i}", dice[3 - len(views)] + jitter[i],
                      hd[3 - len(views)], 1.0, 0.0, 0.0, 0.0, 0.0)
                for i in range(cases)
            ]
            for views in EVERY_SET
        }  # fmt: skip
        spread = {
            views: [UncertaintyScore("x", total, 0.1, 0.3, True, True, False)] * cases
            for views, total in zip(NESTED, totals)
        }
        runs.append(Run(scores, spread, {"kl_level1": 2.0}, 60.0, Regression(), {}, FetalSkull(0)))
    return Model(name, tuple(runs), folds)


def models(**changes):
    found = {"hcvae": fake("hcvae", (0.88, 0.88, 0.87), (5.0, 5.0, 6.0))}
    found |= {"cvae": fake("cvae", (0.91, 0.84, 0.60), (4.0, 6.0, 20.0))}
    for name in (*hcvae.MAIN, *hcvae.RIVALS, *hcvae.VARIANTS):
        found.setdefault(name, fake(name, (0.87, 0.87, 0.87), (7.0, 7.0, 8.0)))
    return found | changes


def test_gates_hold_and_fail_as_the_scores_say():
    assert all(claim.holds for claim in hcvae.gates(models(), 0.05))
    assert [c.holds for c in hcvae.gates(models(), 0.02)].count(False) == 1  # (iii), by 0.03
    worse = models(hcvae=fake("hcvae", (0.95, 0.8, 0.65), (5.0, 9.0, 21.0), (12.0, 11.0, 10.0)))
    failed = [c.name[:5] for c in hcvae.gates(worse, 0.05) if not c.holds]
    assert [name.split(")")[0] for name in failed] == ["(i", "(i", "(ii", "(iv"]
    by_name = {c.name: c for c in hcvae.questions(models())}
    same = by_name["(vii, no gate) DC, axial: HCVAE less cvae-dropout"]
    assert not same.holds and same.measured == pytest.approx(0.0, abs=0.01)
    assert by_name["(vi, no gate) HD mm, axial alone: gan less HCVAE"].measured == 2.0
    hierarchy = models(**{"hcvae any views": fake("m", (0.9, 0.9, 0.9), (7.0, 7.0, 8.0))})
    any_views = [c for c in hcvae.questions(hierarchy) if c.name.endswith("both any views")]
    assert len(any_views) == 5 and all(c.holds for c in any_views)


def test_folds_are_cases_and_seeds_are_not():
    seeds, folds = (fake("m", (0.9, 0.8, 0.7), (1.0, 2.0, 3.0), folds=f) for f in (False, True))
    assert seeds.matrix(NESTED[0], "dice").shape == (3, 8)
    assert folds.matrix(NESTED[0], "dice").shape == (1, 24)
    assert len(folds.pooled(NESTED[2])) == 24
    text = hcvae.any_combination(models())
    assert text.count("\n| ") == 8 and "| sagittal+coronal |" not in text.split("\n")[0]
    assert "| hcvae | 2.00 | - | - | 60 |" in hcvae.levels(models())


def test_every_model_of_the_claims_has_a_configuration():
    every = hcvae.MAIN | hcvae.RIVALS | hcvae.VARIANTS
    named = {name: load_config(f"hcvae:cpu,{a}") for name, a in every.items()}
    assert {c.model.kind for c in named.values()} == {"vae", "tl_net", "gan", "linear"}
    for name, config in named.items():
        views = {"axial+sagittal": (0, 1), "axial": (0,)}.get(name.split(" ")[-1])
        assert views is None or tuple(config.model.views) == views
