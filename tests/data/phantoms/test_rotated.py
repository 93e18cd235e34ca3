"""Phantoms of rotated lesions and textures: what varies does, what must not tell does not."""

import numpy as np
import pytest
from scipy import ndimage

from jaxmedgen.data.phantoms.rotated_lesions import RotatedLesions, random_rotation
from jaxmedgen.data.phantoms.rotated_textures import RotatedTextures, draw_template


def components(source, kind):
    """Coordinates of every separate lesion of a class."""
    for i in range(len(source)):
        parts, count = ndimage.label(source[i]["label"] == kind)
        yield from (np.argwhere(parts == k) for k in range(1, count + 1))


def test_bars_are_straight_and_ls_are_bent_whatever_the_pose():
    for pose in ("canonical", "axis", "random"):
        source = RotatedLesions(12, (32, 32, 32), pose=pose)
        spreads = {}
        for kind in (1, 2):
            values = [np.linalg.eigvalsh(np.cov(c.T)) for c in components(source, kind)]
            assert len(values) >= 5
            spreads[kind] = np.mean([v[1] / v[2] for v in values])
        assert spreads[1] < 0.15 < 0.25 < spreads[2]


def test_canonical_bars_lie_along_the_first_axis_and_random_ones_anywhere():
    def directions(pose):
        source = RotatedLesions(12, (24, 24, 24), pose=pose)
        bars = [np.linalg.eigh(np.cov(c.T))[1][:, -1] for c in components(source, 1)]
        return np.abs(np.stack(bars))

    assert directions("canonical")[:, 0].min() > 0.98
    axis, anywhere = directions("axis"), directions("random")
    assert (axis.max(1) > 0.98).all() and len(set(axis.argmax(1))) == 3
    assert (anywhere.max(1) < 0.9).any()


def test_classes_have_equal_brightness_and_records_depend_on_their_number_only():
    source = RotatedLesions(16)
    means = {1: [], 2: []}
    for i in range(16):
        record = source[i]
        for kind in (1, 2):
            means[kind] += list(record["image"][record["label"] == kind, 0][:1])
    assert np.mean(means[1]) == pytest.approx(np.mean(means[2]), rel=0.2)
    later = RotatedLesions(4, start=7)
    np.testing.assert_array_equal(source[9]["image"], later[2]["image"])
    assert RotatedLesions(2, (32, 24)).info.class_names == ("background", "bar", "l_shape")
    assert RotatedLesions(2, (32, 24))[1]["label"].shape == (32, 24)


def test_rotations_are_uniform():
    rng = np.random.default_rng(0)
    matrices = np.stack([random_rotation(rng, 3) for _ in range(2000)])
    np.testing.assert_allclose(np.linalg.det(matrices), 1)
    np.testing.assert_allclose(matrices.mean(0), 0, atol=0.06)
    np.testing.assert_allclose((matrices**2).mean(0), 1 / 3, atol=0.03)


def test_textures_mix_templates_by_class_only():
    bar, cross = (draw_template(kind, np.eye(3)) for kind in (True, False))
    assert bar.sum() == pytest.approx(2 * 2 * 6.5, rel=0.1)
    assert cross.sum() == pytest.approx(2 * bar.sum() - 8, rel=0.05)
    turned = draw_template(True, np.eye(3)[[1, 0, 2]])
    np.testing.assert_allclose(turned, bar.transpose(1, 0, 2), atol=1e-6)
    source = RotatedTextures(6, 16)
    for i in range(6):
        record = source[i]
        assert record["label"] == i % 2 and record["label"].shape == ()
        assert record["image"].mean() == pytest.approx(0, abs=1e-4)
    with pytest.raises(ValueError, match="at least 8"):
        RotatedTextures(1, 6)
