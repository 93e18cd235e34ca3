"""Claims 1 to 4 of the evaluation of synthetic data, read off made-up scores."""

import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.experiments.reproductions import synthetic_data_trained
from jaxmedgen.experiments.reproductions.record import Options
from jaxmedgen.experiments.reproductions.synthetic import parts, usefulness
from jaxmedgen.experiments.synthetic.generator_sources import ready
from jaxmedgen.experiments.synthetic.known_generators import OracleGenerator
from tests.experiments.made_up import study

VENDORS, DISEASES = "ABCD", ("NOR", "DCM", "HCM", "RV")


@pytest.fixture
def reproduce(tmp_path, monkeypatch):
    """Runs a part of the reproduction with ``dice(arm, budget, vendor, disease)`` for trainings."""

    def part(which, dice, few=None):
        asked = {}

        def run(options, made, experiment, wanted, dataset):
            chosen = [
                dict.fromkeys(filter(wanted, p.arms), p.budgets)
                for p in parts.EXPERIMENTS[experiment](made)
            ]
            asked.update({arm: budgets for arms in chosen for arm, budgets in arms.items()})

            def scores(arm, budget, seed):
                return {
                    f"{v}-{d}-{k:05d}": {
                        "lv": {"dice": dice(arm, budget, v, d) + 0.001 * k, "hd95": 3.0}
                    }
                    for v in VENDORS
                    for d in DISEASES
                    for k in range(3)
                }

            budgets = sorted({b for found in asked.values() for b in found})
            return study(tuple(asked), scores, ("lv",), budgets)

        monkeypatch.setattr(usefulness, "run", run)
        found = which(Options(tmp_path))
        return {claim.name.split(".")[1].strip(): claim for claim in found.claims}, found, asked

    return part


def test_augmentation_counts_on_the_unseen_vendor(reproduce):
    def dice(arm, budget, vendor, disease):
        unseen = 0.3 * ("synthetic" in arm) + 0.1 * ("warped" in arm)
        return 0.5 + (unseen if vendor == "C" else 0.0)

    claims, found, asked = reproduce(usefulness.augmentation, dice)
    assert not any("own style" in arm or "half real" in arm for arm in asked)
    first = claims["real + synthetic (random styles) over augmentation, unseen vendor"]
    assert first.holds and first.measured == pytest.approx(0.3)
    assert claims["the same over the control real+warped, unseen vendor"].measured == (
        pytest.approx(0.2)
    )
    assert "| 8 | real+warped | 0.501 | 3.0 | 0.601 |" in found.table
    again, *_ = reproduce(usefulness.augmentation, lambda *_: 0.5)
    assert not again["real + synthetic (random styles) over augmentation, unseen vendor"].holds


def test_reduction_is_measured_against_all_real_subjects(reproduce):
    def dice(arm, budget, vendor, disease):
        if arm == "real":
            return 0.9 if budget == 40 else 0.8
        return {"synthetic only": 0.82}.get(arm, 0.89)

    claims, _, asked = reproduce(usefulness.reduction, dice)
    assert not any("200 %" in arm for arm in asked) and asked["real"] == (8, 40)
    holds = {name: claim.holds for name, claim in claims.items()}
    assert holds == {
        "retention, 20 % real + synthetic": True,
        "retention lost with 20 % real alone, against with synthetic": True,
        "retention, 0 % real, synthetic only": True,
        "Dice of 20 % real + synthetic less that of all real (equivalence)": True,
    }
    kept = claims["retention, 20 % real + synthetic"].measured
    assert kept == pytest.approx(0.891 / 0.901, abs=1e-3)


def test_the_gap_between_vendors_and_what_is_recovered(reproduce):
    def dice(arm, budget, vendor, disease):
        if vendor == "A":
            return 0.9
        return 0.7 if arm == "real+synthetic, vendor C" and vendor == "C" else 0.5

    claims, *_ = reproduce(usefulness.domain_shift, dice)
    gap = claims["Dice on vendor A less that on vendor C, trained on A"]
    share = claims["part of the gap recovered by synthetic images in C's style"]
    assert gap.measured == pytest.approx(0.4) and gap.holds
    assert share.measured == pytest.approx(0.5)


def test_the_worst_disease_may_be_another_one_afterwards(reproduce):
    def dice(arm, budget, vendor, disease):
        if arm == "real":
            return {"NOR": 0.9, "DCM": 0.8, "HCM": 0.6, "RV": 0.7}[disease]
        return {"NOR": 0.85, "DCM": 0.8, "HCM": 0.8, "RV": 0.65}[disease]

    claims, *_ = reproduce(usefulness.pathology, dice)
    gain = claims["worst disease's Dice gained by pathology synthesis (interval: HCM)"]
    assert gain.measured == pytest.approx(0.05) and gain.holds
    assert not claims["healthy hearts' Dice gained by pathology synthesis"].holds


def test_a_trained_generator_takes_the_place_of_the_oracle(tmp_path, monkeypatch):
    trained, asked = synthetic_data_trained.GENERATOR, []

    def trained_on(name, styles, *, steps):
        asked.append((name, sorted(styles), steps))
        return ready(OracleGenerator(name="learnt"))

    monkeypatch.setattr(parts, "trained_on", trained_on)
    chosen = {"experiment__ratios": "(5,)"}
    oracle = parts.setting(Options(tmp_path), "augmentation", **chosen)
    assert not asked and oracle.generator(oracle.pool, tmp_path, 0).name == "oracle"
    made = parts.setting(Options(tmp_path), "augmentation", trained, **chosen)
    assert made.config == oracle.config
    assert made.generator(made.pool, tmp_path, 0).name == "learnt"
    assert asked == [(trained.config, list(VENDORS), trained.steps)]
    assert 0 < trained.steps <= load_config(trained.config).steps
