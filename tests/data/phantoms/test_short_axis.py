import dataclasses

import numpy as np
import pytest

from jaxmedgen.data.phantoms.short_axis import (
    Body,
    ShortAxis,
    SliceGeometry,
    draw_body,
    draw_tissues,
    epicardial_radius,
    merge_tissues,
)
from jaxmedgen.data.phantoms.vendors import STYLES, VENDORS, acquire, draw_means, render

HEART = SliceGeometry((128.0, 128.0), 40, 16, 24, 1.0, np.pi / 3)


def body(shape=(256, 256)):
    return draw_body(np.random.default_rng(0), shape)


def test_areas_are_those_of_the_geometry():
    tissue = draw_tissues(HEART, body(), (256, 256))
    angles = np.linspace(-np.pi, np.pi, 2000, endpoint=False)
    outer = epicardial_radius(HEART, angles)
    np.testing.assert_allclose((tissue == 1).sum(), np.pi * 40**2, rtol=0.01)
    ring = (outer**2 / 2).mean() * 2 * np.pi - np.pi * 40**2
    np.testing.assert_allclose((tissue == 2).sum(), ring, rtol=0.01)
    even = draw_tissues(dataclasses.replace(HEART, septal_wall=16), body(), (256, 256))
    # Lens of two equal circles 0.7 radii apart: the crescent is what is left of the second.
    lens = 2 * 56**2 * (np.arccos(0.35) - 0.35 * np.sqrt(1 - 0.35**2))
    np.testing.assert_allclose((even == 3).sum(), np.pi * 56**2 - lens, rtol=0.01)
    rows, columns = np.nonzero(tissue == 3)
    towards = np.arctan2((columns - 128).mean(), (rows - 128).mean())
    assert towards == pytest.approx(np.pi / 3, abs=0.02)
    assert outer[np.argmin(np.abs(angles - np.pi / 3))] == pytest.approx(64, abs=0.01)
    assert outer.min() == pytest.approx(56, abs=0.01)


def test_an_apex_has_no_cavity_and_no_right_ventricle():
    apex = dataclasses.replace(HEART, lv_radius=0, rv_scale=0)
    tissue = draw_tissues(apex, body(), (256, 256))
    assert set(np.unique(tissue)) >= {0, 2, 5} and not np.isin(tissue, (1, 3)).any()


def test_slices_are_functions_of_their_number_and_vendors_take_turns():
    source = ShortAxis(8, (48, 64), seed=3, vendors=("A", "C"), classes=8)
    record = source[5]
    assert record["image"].shape == (48, 64, 1) and record["image"].dtype == np.float32
    assert 0 <= record["image"].min() and record["image"].max() <= 1
    assert VENDORS[int(record["vendor"])] == "C" == source.info.case_names[5][-1]
    other = ShortAxis(3, (48, 64), seed=3, vendors=("A", "C"), classes=4, start=5)
    np.testing.assert_array_equal(other[0]["image"], record["image"])
    np.testing.assert_array_equal(other[0]["label"], merge_tissues(record["label"], 4))
    assert set(np.unique(record["label"])) == set(range(8))
    assert source.info.num_classes == 8 and other.info.num_classes == 4


def test_tissues_have_their_vendors_signal():
    """Means over a large tissue, where noise, texture and bias average out."""
    tissue = np.zeros((128, 128), np.int32)
    for value in range(8):
        tissue[16 * value : 16 * (value + 1)] = value
    for vendor in VENDORS:
        images = [render(np.random.default_rng(i), tissue, vendor) for i in range(40)]
        means = np.mean(images, 0).reshape(8, 16, 128)[:, 4:12].mean((1, 2))
        # Rician noise lifts air to its own level.
        signal = np.hypot(STYLES[vendor].means, STYLES[vendor].noise)
        np.testing.assert_allclose(means, signal, rtol=0.06, atol=0.01)


def test_means_make_slices_of_one_subject():
    tissue = np.full((32, 32), 2, np.int32)
    means = draw_means(np.random.default_rng(1), "B")
    assert means[2] != np.float32(STYLES["B"].means[2])
    given = render(np.random.default_rng(2), tissue, "B", means)
    np.testing.assert_array_equal(
        given, acquire(np.random.default_rng(2), np.full((32, 32), means[2]), "B")
    )


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="at least 32 pixels"):
        ShortAxis(1, (16, 64))
    with pytest.raises(ValueError, match="A, B, C, D"):
        ShortAxis(1, vendors=("E",))
    with pytest.raises(ValueError, match="choose 4"):
        ShortAxis(1, classes=5)
    with pytest.raises(ValueError, match="unknown vendor"):
        draw_means(np.random.default_rng(0), "X")
    assert isinstance(body(), Body)
