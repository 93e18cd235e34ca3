"""Glyphs: factors act on the picture as they say."""

import numpy as np
import pytest
from scipy import ndimage

from jaxmedgen.data.phantoms.glyphs import CLASSES, FACTORS, Glyphs, draw


def test_pictures_are_functions_of_seed_and_number():
    source, later = Glyphs(6, seed=3), Glyphs(2, seed=3, start=4)
    np.testing.assert_array_equal(source[5]["image"], later[1]["image"])
    assert source[0]["image"].shape == (28, 28, 1)
    factors = np.stack([Glyphs(300)[i]["factors"] for i in range(300)])
    assert set(factors[:, 0].astype(int)) == set(range(CLASSES))
    assert np.abs(np.corrcoef(factors.T) - np.eye(len(FACTORS))).max() < 0.25


@pytest.mark.parametrize("kind", range(CLASSES))
def test_pose_is_a_similarity_of_the_canonical_glyph(kind):
    angle, scale, shift = 0.5, 1.2, np.array([0.1, -0.2])
    plain = draw(np.array([kind, 0.15, 0.2, 0, 1, 0, 0]), (84, 84))
    posed = draw(np.array([kind, 0.15, 0.2, angle, scale, *shift]), (84, 84))
    cos, sin = np.cos(angle), np.sin(angle)
    inverse = np.array([[cos, sin], [-sin, cos]]) / scale
    offset = 41.5 - inverse @ (41.5 + 42 * shift)
    expected = ndimage.affine_transform(plain, inverse, offset, order=1)
    assert np.abs(expected - posed).mean() < 0.015
    assert posed.mean() > 0.02


def test_width_and_curvature_change_the_picture():
    base = np.array([0, 0.1, 0, 0, 1, 0, 0])
    wide, bent = base.copy(), base.copy()
    wide[1], bent[2] = 0.2, 0.3
    ink = draw(base, (56, 56)).sum()
    np.testing.assert_allclose(draw(wide, (56, 56)).sum() / ink, 2, rtol=0.15)
    columns = np.flatnonzero(draw(bent, (56, 56)).sum(0) > 0.5)
    assert np.ptp(columns) > np.ptp(np.flatnonzero(draw(base, (56, 56)).sum(0) > 0.5)) + 2
