"""Fetal skulls against closed forms, the sheet's diameters and scipy's resampling."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.special import eval_legendre

from jaxmedgen.data.phantoms.fetal_skull import (
    Anatomy,
    FetalSkull,
    mean_biparietal_diameter,
    plane_points,
    surface,
)
from jaxmedgen.data.planes import FIELD_OF_VIEW


def anatomy(modes=(0,) * 8):
    half = np.array([35.0, 44.0, 32.0])
    return Anatomy(28.0, 2 * half, np.asarray(modes, np.float64), 10 * half, np.ones(3))


def test_diameters_are_those_of_the_growth_curve():
    found = [mean_biparietal_diameter(age) for age in (20, 24, 28, 32, 36)]
    np.testing.assert_allclose(found, (47, 60, 71, 81, 89), atol=0.6)
    source = FetalSkull(60)
    heads = [source.anatomy(i) for i in range(60)]
    expected = [mean_biparietal_diameter(h.age) for h in heads]
    ratio = np.array([h.diameters[0] for h in heads]) / expected
    assert 0.015 < ratio.std() < 0.045 and abs(ratio.mean() - 1) < 0.015


def test_surface_is_an_ellipsoid_with_eight_modes():
    directions = np.random.default_rng(0).standard_normal((50, 3))
    n = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    half = anatomy().diameters / 2
    np.testing.assert_allclose(surface(anatomy(), n * half), 0, atol=1e-5)
    a = np.linspace(-0.06, 0.07, 8)
    x, y, z = n.T
    modes = (x * y, x * z, y * z, eval_legendre(2, z), eval_legendre(3, y), eval_legendre(3, z), x,
             x**2 - y**2)  # fmt: skip
    radius = 1 + sum(c * q for c, q in zip(a, modes))
    np.testing.assert_allclose(surface(anatomy(a), n * half * radius[:, None]), 0, atol=1e-5)


def test_planes_cut_the_volume():
    source = FetalSkull(1, (96, 96, 96), seed=3)
    head = source.anatomy(0)
    grid = source._grid()
    points = plane_points(np.random.default_rng(5), head, grid)
    inside = surface(head, points) < 0
    voxels = points / (FIELD_OF_VIEW / 96) + 95 / 2
    volume = source[0]["label"].astype(np.float32)
    sampled = ndimage.map_coordinates(volume, np.moveaxis(voxels, -1, 0), order=1) > 0.5
    for view in range(3):
        dice = 2 * (inside[view] & sampled[view]).sum() / (inside[view].sum() + sampled[view].sum())
        assert dice > 0.97
    # Not registered: every view has a pose of its own.
    normals = np.cross(points[:, -1, 0] - points[:, 0, 0], points[:, 0, -1] - points[:, 0, 0])
    assert np.linalg.matrix_rank(normals / np.linalg.norm(normals, axis=1)[:, None]) == 3
    assert len({round(float(np.abs(n).max() / np.linalg.norm(n)), 6) for n in normals}) == 3


def test_the_face_is_seen_from_the_side_and_not_from_above():
    source = FetalSkull(40, (32, 32, 32), seed=1)
    axial = sagittal = 0
    for index in range(20):
        head = source.anatomy(index)
        bare = Anatomy(head.age, head.diameters, head.modes, 1e4 * np.ones(3), np.ones(3))
        points = plane_points(np.random.default_rng(index), head, source._grid())
        grown = ((surface(head, points) < 0) & (surface(bare, points) >= 0)).sum((1, 2))
        axial, sagittal = axial + grown[0], sagittal + grown[1]
    assert sagittal > 100 and axial < 0.02 * sagittal


def test_records_are_functions_of_seed_and_number():
    first, shifted = FetalSkull(4, (16,) * 3, 2), FetalSkull(2, (16,) * 3, 2, start=1)
    for key in ("planes", "label"):
        np.testing.assert_array_equal(first[2][key], shifted[1][key])
    record = first[0]
    assert record["planes"].shape == (16, 16, 3) and record["planes"].dtype == np.float32
    assert 0 <= record["planes"].min() and record["planes"].max() <= 1
    assert first.info.spacing == (150 / 16,) * 3
    twins = FetalSkull(4, (16,) * 3, scans=2)
    np.testing.assert_array_equal(twins[0]["label"], twins[1]["label"])
    assert np.abs(twins[0]["planes"] - twins[1]["planes"]).max() > 0.1
    assert twins.info.case_names[:3] == ("sub-00000_scan-1", "sub-00000_scan-2", "sub-00001_scan-1")


def test_shells_and_shadows():
    solid, shell = (FetalSkull(1, (32,) * 3, shell=s)[0]["label"] for s in (False, True))
    assert 0 < shell.sum() < solid.sum() and not np.any(shell > solid)
    depth = ndimage.distance_transform_edt(solid)
    assert depth[shell > 0].max() <= 3
    plain, dark = (FetalSkull(1, (48,) * 3, shadow=s)[0]["planes"] for s in (0.0, 1.0))
    assert (dark < 0.08).mean() > 1.5 * (plain < 0.08).mean()


def test_settings_that_make_no_head_are_refused():
    with pytest.raises(ValueError, match="three equal axes"):
        FetalSkull(1, (32, 32, 48))
    with pytest.raises(ValueError, match="shadow 2"):
        FetalSkull(1, shadow=2)
