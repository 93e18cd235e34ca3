"""Ellipses and digit-like masks: areas, moments, classes, determinism."""

import numpy as np
import pytest
import scipy.ndimage

from jaxmedgen.data.phantoms.digit_masks import CLASSES, DigitMasks
from jaxmedgen.data.phantoms.ellipses import Ellipses


def test_an_ellipse_has_its_area_centre_and_axes():
    source = Ellipses(30, seed=3)
    for index in range(30):
        record = source[index]
        image = record["image"][..., 0].astype(np.float64)
        *centre, long, short, angle = record["factors"]
        np.testing.assert_allclose(image.sum(), np.pi * long * short, rtol=0.02)
        middle = scipy.ndimage.center_of_mass(image)
        np.testing.assert_allclose(middle, 15.5 + np.array(centre), atol=0.1)
        points = np.argwhere(image >= 0) - middle
        spread = (points.T * image.ravel()) @ points / image.sum()
        values, vectors = np.linalg.eigh(spread)
        np.testing.assert_allclose(
            2 * np.sqrt(values), [min(long, short), max(long, short)], atol=0.35
        )
        if long - short > 2:
            direction = vectors[:, 1] @ [np.sin(angle), np.cos(angle)]
            assert abs(direction) > 0.98


def test_digits_have_ten_classes_that_a_nearest_neighbour_tells_apart():
    source = DigitMasks(300, seed=1)
    records = [source[i] for i in range(300)]
    images = np.stack([r["image"].ravel() for r in records])
    target = np.array([r["target"] for r in records])
    assert set(target) == set(range(CLASSES)) and images.min() >= 0 and images.max() <= 1
    distance = ((images[200:, None] - images[None, :200]) ** 2).sum(-1)
    assert (target[:200][distance.argmin(1)] == target[200:]).mean() > 0.6
    assert not records[0]["context"][16:].any()
    np.testing.assert_array_equal(records[0]["context"][:16], records[0]["image"][:16])


@pytest.mark.parametrize("make", [Ellipses, DigitMasks])
def test_a_mask_depends_on_its_number_alone(make):
    np.testing.assert_array_equal(make(9, seed=2)[5]["image"], make(4, seed=2, start=3)[2]["image"])
    assert make(1, (48, 64))[0]["label"].sum() > 2 * make(1)[0]["label"].sum() > 0
    with pytest.raises(ValueError, match="two axes"):
        make(1, (8, 8))
    with pytest.raises(IndexError):
        make(1)[1]
