"""Clinical indices of drawn rings with known sizes; topology of broken hearts."""

import numpy as np
import pytest

from jaxmedgen.metrics.cardiac import (
    area_jumps,
    check_heart_order,
    clinical_indices,
    ejection_fraction,
    neighbour_dice,
    wall_thickness,
)
from jaxmedgen.metrics.plausibility import IndexRange, clean_label, plausible_share, slice_flags


def ring(inner, outer, spacing=(1.0, 1.0), shape=(96, 96), centre=(44.3, 40.2)):
    """Blood within `inner` mm, muscle up to `outer`, a right ventricle that touches it."""
    rows, columns = (np.arange(n) * s for n, s in zip(shape, spacing))
    distance = np.hypot(rows[:, None] - centre[0], columns - centre[1])
    right = np.hypot(rows[:, None] - centre[0], columns - centre[1] - outer) < 0.6 * outer
    label = np.where(right, 3, 0)
    label[distance < outer] = 2
    label[distance < inner] = 1
    return label.astype(np.int32)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.8, 1.3)])
def test_wall_thickness_of_a_ring(spacing):
    label = ring(14.0, 23.0, spacing)
    assert wall_thickness(label, spacing) == pytest.approx(9.0, abs=0.25)
    assert np.isnan(wall_thickness(0 * label, spacing))


def test_volumes_and_mass_of_a_cylinder():
    stack = np.stack([ring(14.0, 23.0)] * 5)
    found = clinical_indices(stack, (8.0, 1.0, 1.0))
    assert found.lv_volume == pytest.approx(np.pi * 14**2 * 40 / 1000, rel=0.01)
    assert found.mass == pytest.approx(1.05 * np.pi * (23**2 - 14**2) * 40 / 1000, rel=0.01)
    assert found.rv_volume == pytest.approx((stack == 3).sum() * 8 / 1000)
    assert ejection_fraction(120, 48) == pytest.approx(0.6)
    with pytest.raises(ValueError, match="must be positive"):
        ejection_fraction(0, 1)


def test_the_order_of_a_hearts_classes():
    check_heart_order(("background", "lv_blood", "lv_myocardium", "rv_blood", "lung", "left arm"))
    check_heart_order(("background", "left hippocampus", "right hippocampus"))  # no heart
    check_heart_order(("background", "1", "2", "3"))
    with pytest.raises(ValueError, match="RV, MYO, LV: hearts are left cavity"):
        check_heart_order(("background", "RV", "MYO", "LV"))


def test_neighbours_of_different_sizes():
    stack = np.stack([ring(14.0, 23.0), ring(14.0, 23.0), ring(7.0, 23.0)])
    assert neighbour_dice(stack[:2]) == 1
    areas = (stack == 1).sum((1, 2))
    expected = 2 * areas[2] / (areas[1] + areas[2])
    assert neighbour_dice(stack[1:], classes=(1,)) == pytest.approx(expected)
    assert area_jumps(stack, (8, 1, 1), (1,)) == pytest.approx((areas[1] - areas[2]) / 2)
    with pytest.raises(ValueError, match="neighbours need two"):
        neighbour_dice(stack[:1])


def broken():
    """Hearts with one fault each, by the flag that must see it."""
    whole = ring(14.0, 23.0)
    gap = whole.copy()
    gap[:, 40][whole[:, 40] == 2] = 0  # a slit through the ring
    gap = np.where((gap == 0) & (np.indices(gap.shape)[0] > 44), whole, gap)
    hole = whole.copy()
    hole[44, 40] = 0
    piece = whole.copy()
    piece[90, 5] = 1
    far = np.where(whole == 3, 0, whole)
    far[80:86, 80:86] = 3
    return {"enclosed": gap, "filled": hole, "connected": piece, "adjacent": far}


@pytest.mark.parametrize("flag", ["enclosed", "filled", "connected", "adjacent"])
def test_every_fault_is_seen_by_its_flag(flag):
    assert slice_flags(ring(14.0, 23.0)).plausible
    found = slice_flags(broken()[flag])
    assert not getattr(found, flag) and not found.plausible


def test_shares_count_gaps_inside_a_stack():
    whole, empty = ring(14.0, 23.0), np.zeros((96, 96), np.int32)
    assert plausible_share(np.stack([empty, whole, whole, empty])) == 1
    assert plausible_share(np.stack([whole, empty, whole])) == pytest.approx(2 / 3)
    assert plausible_share(np.stack([empty])) == 0


def test_cleaning_removes_pieces_and_fills_holes():
    whole = ring(14.0, 23.0)
    dirty = whole.copy()
    dirty[44, 40] = 3  # in the blood
    dirty[90, 5] = 2  # in the air
    dirty[44, 20] = 0  # in the muscle
    assert whole[44, 20] == 2
    np.testing.assert_array_equal(clean_label(dirty), whole)


def test_ranges_hold_the_middle_of_the_subjects():
    subjects = [
        clinical_indices(np.stack([ring(r, 1.6 * r)] * 4), (8.0, 1.0, 1.0))
        for r in np.linspace(10.0, 20.0, 9)
    ]
    usual = IndexRange.of(subjects)
    assert usual.contains(subjects[5]) and not usual.contains(subjects[0])
    with pytest.raises(ValueError, match="no subjects"):
        IndexRange.of([])
