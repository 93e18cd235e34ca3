"""Measures behind the claims of cardiac synthesis, on cases with known answers."""

import collections

import jax
import numpy as np
import pytest

from jaxmedgen.experiments.reproductions import cardiac_synthesis as claims
from jaxmedgen.experiments.reproductions.cardiac import models
from jaxmedgen.experiments.reproductions.cardiac.judges import (
    Judges,
    Slices,
    agreement,
    without_heart,
)
from jaxmedgen.nets.feature_extractor import Extractor

LABEL = np.zeros((6, 8, 8), np.int32)
LABEL[:, 1:4, 1:4] = 1
LABEL[:, 4:6, 1:4] = 2
LABEL[:, 6:, 6:] = 5  # an organ


def test_pairs_are_of_different_vendors():
    vendor = np.array(["A", "B", "A", "A", "B", "A"])
    partner = models.other_vendor(Slices(LABEL[..., None], LABEL, vendor))
    assert (vendor[partner] != vendor).all()
    assert set(partner[vendor == "A"]) == {1, 4}


def test_contrast_is_blood_less_muscle():
    image = np.where(LABEL == 1, 0.5, np.where(LABEL == 2, -0.25, 0.9))[..., None]
    np.testing.assert_allclose(models.contrast(image, LABEL), 0.75)


def test_a_blanked_heart_leaves_the_background():
    image = np.full((6, 8, 8, 1), 0.5, np.float32)
    blanked = without_heart(image, LABEL)[..., 0]
    assert (blanked[(LABEL == 1) | (LABEL == 2)] == -1).all()
    assert (blanked[(LABEL == 0) | (LABEL == 5)] == 0.5).all()


def test_agreement_is_the_mean_dice_of_the_heart():
    heart = np.where(LABEL == 5, 0, LABEL)
    np.testing.assert_allclose(agreement(heart, heart), 1)
    wrong = heart.copy()
    wrong[:, 4] = 0  # half of the muscle missed: Dice 2/3
    np.testing.assert_allclose(agreement(wrong, heart), (1 + 2 / 3) / 2)


def test_claims_hold_and_fail_as_their_numbers_say():
    def scores(**changes):
        numbers = {"dice": 0.9, "own_vendor": 0.5, "fid": 2.0, "background_fid": 1.0}
        style = {"style_vendor": 0.95, "contrast_change": 0.3, "between_styles_dice": 0.92}
        return [numbers | style | changes] * 2

    found = {
        "label": scores(),
        "vae": scores(),
        "pix2pixhd": scores(dice=0.89),
        "per_vendor": scores(fid=1.0),
        "vendor_a": scores(fid=0.5),
        "vendor_a_classes_8": scores(background_fid=1.5),
        "vendor_a_no_feature_matching": scores(fid=0.6),
        "vendor_a_no_perceptual": scores(fid=0.4),
    }
    values = claims.measured(found)
    checked = claims.claims(values)
    assert [claim.holds for claim in checked] == [
        True, False, True, True, True, True, True, False, True, False,
    ]  # fmt: skip
    assert checked[1].measured == pytest.approx(0.01)
    assert checked[6].measured == pytest.approx(-1.0)
    assert all(claim.interval is None for claim in checked)
    lines = claims.seed_table(values).splitlines()
    assert lines[3] == "| (i) SPADE less pix2pixHD: Dice | 0.010 (0.000) | 0.010, 0.010 |"
    lines = claims.table({"label": scores(), "real": [{"dice": 0.95}]}).splitlines()
    assert lines[2].startswith("| label | 0.900 (0.000) | 0.500")
    assert lines[3].startswith("| real | 0.950 |  |")


def test_a_difference_of_fid_has_one_sign_in_all_seeds():
    """The mean of three may have a sign that two of them do not have."""
    values = {name: [1.0, 1.0, 1.0] for name in claims.measured(collections.defaultdict(list))}
    last = list(values)[-1]

    def checked(numbers):
        return claims.claims({**values, last: numbers})[-1]

    mixed = checked([5.8, -1.7, -1.0])
    assert not mixed.holds and mixed.measured > 0 and mixed.interval is None
    assert mixed.expected == ">= 0, every seed"
    assert checked([5.8, 1.7, 0.1]).holds
    assert claims.claims({**values, next(iter(values)): [0.99, 0.99, 0.8]})[0].holds  # a mean
    row = claims.seed_table({last: [5.8, -1.7, -1.0]}).splitlines()[-1]
    assert row.endswith("| 1.033 (4.143) | 5.800, -1.700, -1.000 |")


def mean(x):
    return x.mean((1, 2, 3))


class Brightness(Judges):
    """Sure that bright slices are of one vendor and dark ones of the other."""

    def __init__(self):
        self.extractor = Extractor(
            "brightness",
            "0",
            features=lambda x: mean(x)[:, None],
            maps=lambda x: (x,),
            probs=lambda x: jax.nn.one_hot((mean(x) > 0).astype(int), 2),
        )
        self.encoder, self.vendors = self.extractor, ["dark", "bright"]

    def fidelity(self, image, label):
        return np.ones(len(image))


def test_quality_has_the_inception_score_and_similarity_at_several_scales():
    rng = np.random.default_rng(0)
    label = np.zeros((200, 24, 24), np.int32)
    level = np.where(np.arange(200) % 2, 0.5, -0.5)[:, None, None, None]
    image = (level + 0.1 * rng.standard_normal((200, 24, 24, 1))).astype(np.float32)
    real = Slices(image, label, np.array(["dark", "bright"] * 100))
    same = models.quality(Brightness(), real, image)
    # Ten parts of 20 slices hold nearly as many of both vendors; 2 if as many.
    assert 1.8 < same["inception_score"] <= 2 and same["ms_ssim"] == pytest.approx(1, abs=1e-5)
    bright = models.quality(Brightness(), real, np.abs(image))
    assert bright["inception_score"] == pytest.approx(1)
    moved = models.quality(Brightness(), real, np.roll(image, 3, axis=1))
    assert moved["ms_ssim"] < 0.9 and moved["inception_score"] == same["inception_score"]
    lines = claims.table({"label": [same]}).splitlines()
    head, row = ([cell.strip() for cell in line.split("|")] for line in (lines[0], lines[2]))
    assert row[head.index("MS-SSIM")] == "1.000"
    assert row[head.index("inception score")] == f"{same['inception_score']:.3f}"
