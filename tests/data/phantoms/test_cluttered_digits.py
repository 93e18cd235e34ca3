"""Cluttered digits: the generator's rules, folds, and which pairs keep their masks."""

import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.phantoms.cluttered_digits import ClutteredDigits


def glyphs(size=40, **settings):
    settings = {"shape": (32, 32), "clutter": 6, "piece": 6, "glyph": 18} | settings
    return ClutteredDigits(size, **settings)


def test_pairs_show_a_digit_among_clutter_and_clutter_alone():
    """Without clutter: background N(0, 0.01^2), the digit where it is positive, mask above 1/2."""
    plain = glyphs(clutter=0)
    backgrounds = []
    for i in range(8):
        record, empty = plain[i], plain.without(i)[..., 0]
        image, mask = record["image"][..., 0], record["label"] > 0
        np.testing.assert_array_equal(mask, image > 0.5)
        digit = plain.digits[0][i]
        pasted = image != empty
        assert pasted.sum() == (digit > 0).sum()
        np.testing.assert_allclose(np.sort(image[pasted]), np.sort(digit[digit > 0]))
        backgrounds += [empty, record["absent"][..., 0]]
    assert abs(np.std(backgrounds) - 0.01) < 5e-4 and np.min(backgrounds) < -0.02
    assert plain[3]["image"].tobytes() == plain[3]["image"].tobytes()


def test_clutter_never_exceeds_one_and_may_hide_the_digit():
    source = glyphs(clutter=30)
    hidden = 0
    for i in range(20):
        record, clean = source[i], source.without(i)
        assert record["image"].max() <= 1.001
        mask = record["label"] > 0
        hidden += (record["image"][..., 0][mask] < 0.5).any()
        # Outside of the digit's picture both are the same: one background, one clutter.
        assert (record["image"] == clean).mean() > 0.6
    assert hidden > 5
    crowded, sparse = (glyphs(clutter=n)[0]["absent"].mean() for n in (30, 3))
    assert crowded > 3 * sparse


def test_folds_share_no_digit():
    parts = [glyphs(fold=fold).digits[0] for fold in ("train", "validation", "test")]
    seen = [{picture.tobytes() for picture in part} for part in parts]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])


def test_masks_are_kept_for_a_share_of_one_kind_of_digit():
    overrides = {"data.train": "400", "data.validation": "4", "data.test": "4"}
    sources = build_sources(load_config("genseg:cpu", overrides).data)
    kinds = glyphs(400, seed=0)
    known = [i for i in range(400) if sources.train[i]["has_mask"]]
    assert len(known) == 8 and {kinds.kind(i) for i in known} == {9}
    for i in range(400):
        assert sources.train[i]["label"].any() == (i in known)
    assert sources.test[0]["label"].any()


def test_domains_are_groups_of_digits_with_a_class_each():
    source = glyphs(60, domains=2)
    assert source.info.class_names == ("background", "digit_0", "digit_1")
    for i in range(20):
        record = source[i]
        assert record["domain"] == (source.kind(i) >= 5)
        assert set(np.unique(record["label"])) == {0, 1 + int(record["domain"])}


def test_images_too_small_for_a_digit_are_refused():
    with pytest.raises(ValueError, match="more than 18 pixels"):
        glyphs(shape=(18, 32))
