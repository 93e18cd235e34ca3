"""Left ventricles and hippocampi: geometry, ejection, where the disease is."""

import numpy as np
import pytest

from jaxmedgen.data.phantoms import left_ventricle as lv
from jaxmedgen.data.phantoms.hippocampus import Hippocampi
from jaxmedgen.data.phantoms.left_ventricle import LeftVentricles, render_ventricle

SHAPE = (32, 32, 32)
VOXEL = (lv.FIELD_OF_VIEW / 32) ** 3 / 1000


@pytest.mark.parametrize("make", [LeftVentricles, Hippocampi])
def test_subjects_are_functions_of_seed_and_number(make):
    source, later = make(4, (16, 16, 16), seed=2), make(1, (16, 16, 16), seed=2, start=3)
    for name, value in source[3].items():
        np.testing.assert_array_equal(value, later[0][name])
    assert [int(source[i]["target"]) for i in range(4)] == [0, 1, 0, 1]
    assert source.info.case_names[3] == later.info.case_names[0]
    assert set(np.unique(source[0]["image"])) == {0.0, 1.0}
    with pytest.raises(ValueError, match="at least 16"):
        make(1, (8, 8, 8))


def test_volumes_are_those_of_the_bullet():
    """Solid of revolution: the blood's volume in closed form, and the ejection fraction drawn."""
    plain = lv.Ventricle(24, 80, 8, 0.0, (0.0, 0.0), (-40.0, 0.0, 0.0))
    s = (np.arange(4000) + 0.5) / 4000
    profile = 1 - np.maximum(0, 1 - s / 0.85) ** 2
    expected = np.pi * 24**2 * 80 * profile.mean() / 1000
    blood = render_ventricle(plain, SHAPE)[1].sum() * VOXEL
    np.testing.assert_allclose(blood, expected, rtol=0.03)
    squeezed = render_ventricle(plain.contract(0.6), SHAPE)[1].sum() * VOXEL
    np.testing.assert_allclose(1 - squeezed / blood, 0.6, atol=0.03)


def test_the_disease_is_a_thicker_septum_and_nothing_else():
    source = LeftVentricles(8, SHAPE, seed=1)
    added, mirrored = [], []
    for index in range(1, 8, 2):
        relaxed, _ = source.ventricles(index)
        sick, well = (render_ventricle(v, SHAPE)[0] for v in (relaxed, relaxed.healthy()))
        assert not (well & ~sick).any()
        region = lv.septal_region(relaxed, SHAPE)
        new = sick & ~well
        added.append((new & region).sum() / new.sum())
        mirrored.append(new[:, :, :16].sum() / new.sum())
        assert not lv.septal_region(relaxed.healthy(), SHAPE).any()
    assert min(added) > 0.7 and np.mean(mirrored) > 0.7


def test_external_population_is_thicker_thinner_and_blurred():
    small, large = (LeftVentricles(6, SHAPE, body=b) for b in (0.85, 1.15))
    volume = [np.mean([s[i]["image"].mean() for i in range(6)]) for s in (small, large)]
    assert volume[0] < 0.75 * volume[1]
    mild, full = (LeftVentricles(2, SHAPE, amplitude=a) for a in (0.5, 1.0))
    bumps = [s.ventricles(1)[0].septal.amplitude for s in (mild, full)]
    assert bumps[0] == pytest.approx(0.5 * bumps[1])
    sharp, soft = LeftVentricles(2, SHAPE)[0], LeftVentricles(2, SHAPE, blur=3.0)[0]
    changed = (sharp["image"] != soft["image"]).mean()
    assert 0 < changed < 0.05


def test_shrinkage_takes_the_head_of_the_hippocampus():
    source = Hippocampi(40, SHAPE, seed=3)
    whole = source.hippocampus(1)
    healthy = type(whole)(**{**vars(whole), "shrinkage": 0.0})
    lost = healthy.mask(SHAPE) & ~whole.mask(SHAPE)
    assert lost.sum() > 20 and (lost & whole.head(SHAPE)).sum() > 0.9 * lost.sum()
    volumes = np.array([source[i]["image"].sum() for i in range(40)])
    assert abs(volumes[1::2].mean() - volumes[::2].mean()) < volumes.std()
