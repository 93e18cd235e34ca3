"""Claims on label deformation, from made-up measures of models."""

from typing import ClassVar

import numpy as np
import pytest

from jaxmedgen.experiments.reproductions import label_deformation
from jaxmedgen.experiments.reproductions.hearts import pathology
from jaxmedgen.experiments.reproductions.hearts.measured import Measured
from jaxmedgen.experiments.reproductions.record import Claim, Options

PICTURE = {"drawn": np.zeros((2, 2, 3), np.uint8)}
BETAS = ("beta1", "beta5", "vae", "beta50")


def outcome(plausible, topology):
    return {
        "distance": 2.0,
        "topology": 99.0,
        "plausible": plausible,
        "topology_raw": topology,
        "in_range": 50.0,
        "folded": 0.0,
        "discrepancy": 0.1,
        "to_train": 0.25,
        "to_held_out": 0.75,
    }


class MadeUp(Measured):
    """A model whose measures are given: those of the second seed differ by a known amount."""

    values: ClassVar = {}

    def __init__(self, options, arm, seed, steps=None, prefix=""):
        self.arm, self.seed, self.sweep = arm, seed, bool(prefix)

    seconds = 1.0

    def close(self):
        pass

    def measure(self, function, **settings):
        return self.measure_and_draw(function, **settings)[0]

    def measure_and_draw(self, function, **settings):
        found = self.values[function.__name__]
        return (found(self, **settings) if callable(found) else found), PICTURE


def summary(model):
    rank = BETAS.index(model.arm) if model.sweep else 0
    return {
        "dice": 0.9 - 0.1 * rank,
        "class_dice": {"left cavity": 0.95, "muscle": 0.87, "right cavity": 0.76},
        "held_out": 0.8,
        "kl": 20.0,
        "units": 16,
        "roughness": 3.0 - rank,
        "path": 0.7 + 0.05 * rank,
        "neighbours": 0.8,
        "area_jumps": 61.0,
        "plausible": 0.9,
        "seconds": 5.0,
    }


def shift(model, disease, seed):
    """The other two indices move by 0.2 and -0.3 deviations, the target by 1."""
    change = dict(zip(pathology.SHIFTED, (0.2, -0.3, 0.2)))
    change[pathology.DISEASES[disease]] = 1.0
    if disease == "RV":  # the left ventricle moves as much
        change["lv_volume"] = -0.9
    return {
        "spearman": 0.97 if disease != "DCM" else 0.9,
        "change": change,
        "real_change": change,
        "probability": tuple(0.1 * model.seed + 0.05 * k for k in range(pathology.STEPS)),
        "probability_spearman": 0.9 + 0.05 * model.seed,
    }


def coherence(model, seed):
    return {
        "dice": {"moments": 0.8 + 0.1 * seed, "raw": 0.8, "none": 0.7},
        "plausible": {"moments": 0.9, "raw": 0.9, "none": 0.5},
        "mean_error": 0.02,
        "deviation_error": 0.05 + 0.02 * seed,
        "largest_error": 0.3,
        "raw_mean_error": 0.5,
        "real": 0.85,
        "jumps": {"moments": 62.0, "raw": 63.0, "none": 164.0},
        "real_jumps": 61.0,
    }


@pytest.fixture
def claims(tmp_path, monkeypatch):
    """What is made of the measures, by the start of a claim's name."""
    monkeypatch.setattr(label_deformation, "Measured", MadeUp)
    monkeypatch.setattr(label_deformation, "SEEDS", 2)
    MadeUp.values = {
        "summarise": summary,
        "dice_of_model": lambda model: 0.80 + 0.02 * model.seed,
        "dice_between": lambda model, method: {"nearest": 0.77, "distance": 0.84}[method],
        "share_equalised": 1.0,
        "compare": lambda model, seed: {
            "elastic": outcome(80.0, 70.0),
            "latent": outcome(94.0 + 4 * seed, 90.0),
            "t": 0.4,
            "held_out_to_train": 0.5,
        },
        "coherence": coherence,
        "shift": shift,
        "between_share": lambda model, seed: 0.9 + 0.05 * seed,
        "target_error": lambda model: 0.05 + 0.2 * model.seed,
        "examples": None,
    }
    found = label_deformation.reproduce(Options(tmp_path))
    assert list(found.pictures) and found.seeds == 2
    for columns in (
        "held-out subjects are 0.50 from their nearest",
        "| 0.100 | 0.25 | 0.75 |",  # MMD, nearest training and held-out subject
        "| 61 / 62 / 63 / 164 |",
        "| 0.800 | 61 | 90.0 |",
        "| of left cavity / muscle / right cavity |",
        "| vae | 0.900 | 0.950 / 0.870 / 0.760 | 0.800 |",
        "| probability at t = 0, 0.2, 0.4, 0.6, 0.8, 1 | its rho |",
        "| 0.05, 0.15, 0.25, 0.35, 0.45, 0.55 | 0.925 |",  # means of both seeds
    ):
        assert columns in found.table
    return {claim.name: claim for claim in found.claims}


def test_claims_are_read_off_the_measures(claims):
    """Means over seeds, the best or worst over the rest, and both signs of an off-target change."""
    expected = {
        "(i) Dice of held-out slices, VAE less nearest slice": (0.04, True),
        "(i) Dice of held-out slices, VAE less SDF": (-0.03, False),
        "(i) subjects with 32 slices, %": (100, True),
        "(ii) plausible slices of the VAE, %": (96, True),
        "(ii) plausible slices, VAE less elastic d = 20 mm, points": (16, True),
        "(ii) topology alone, before cleaning, VAE, %": (90, False),
        "(ii) topology alone, before cleaning, VAE less elastic, points": (20, True),
        "(iii) Dice of consecutive slices, correlated less uncorrelated": (0.15, True),
        "(iii) mean and deviation of latents off their targets, mean over entries": (0.06, True),
        "(iii) the same, worst entry": (0.3, False),
        "(iv) NOR to HCM: Spearman of wall_thickness and t": (0.97, True),
        "(iv) NOR to HCM: largest off-target over on-target change": (0.3, True),
        "(iv) NOR to DCM: Spearman of lv_volume and t": (0.9, False),
        "(iv) NOR to DCM: largest off-target over on-target change": (0.3, True),
        "(iv) NOR to RV: Spearman of rv_volume and t": (0.97, True),
        "(iv) NOR to RV: largest off-target over on-target change": (0.9, False),
        "(v) pairs whose volume at t = 1/2 lies between both, %": (92.5, True),
        "(v) subjects sent to the 99th percentile of LV volume miss it by, SD": (0.15, False),
        "(vi) Spearman of beta and reconstruction Dice": (-1, True),
        "(vi) Spearman of beta and the least Dice along interpolation paths": (1, True),
        "(vi) Spearman of beta and roughness of latent paths": (-1, True),
    }
    assert set(claims) == set(expected)
    for name, (measured, holds) in expected.items():
        assert claims[name].measured == pytest.approx(measured), name
        assert claims[name].holds is holds, name


def test_an_index_that_falls_is_no_shift_to_the_disease(claims, tmp_path):
    """Whatever the others do."""
    MadeUp.values["shift"] = lambda model, disease, seed: (
        shift(model, disease, seed) | {"change": dict.fromkeys(pathology.SHIFTED, -1.0)}
    )
    found = label_deformation.reproduce(Options(tmp_path)).claims
    ratios = [claim for claim in found if "off-target" in claim.name]
    assert len(ratios) == 3 and not any(claim.holds for claim in ratios)


def test_failures_are_explained_where_they_were_looked_into(tmp_path):
    def explained(overrides=None, **failed):
        claims = [
            Claim(name, "", 0.0, None, name[:4] not in failed.get("names", ()))
            for name in (
                "(ii) plausible slices, VAE less elastic d = 20 mm, points",
                "(vi) Spearman of beta and roughness of latent paths",
            )
        ]
        return label_deformation.explained(claims, Options(tmp_path, overrides=overrides or {}))

    assert explained() == ()
    (both,) = explained(names=("(ii)", "(vi)"))
    assert both.startswith("Where claims fail. (ii) lies") and "(vi) roughness" in both
    (one,) = explained(names=("(vi)",))
    assert "(ii)" not in one and "(iii)" not in one
    assert explained({"steps": "20"}, names=("(ii)", "(vi)")) == ()
