"""Largest component: islands go, classes of the organ stay; holes: enclosed background goes."""

import numpy as np

from jaxmedgen.data.postprocess import fill_holes, keep_largest_component


def test_islands_go_and_classes_stay():
    label = np.zeros((12, 12, 12), np.int32)
    label[2:7, 2:7, 2:7] = 1
    label[7, 7, 7] = 2  # touches the cube at a corner only
    island = label.copy()
    island[10:12, 10:12, 10:12] = 3
    cleaned = keep_largest_component(island)
    np.testing.assert_array_equal(cleaned, label)
    assert cleaned.dtype == label.dtype


def test_nothing_to_remove():
    empty = np.zeros((5, 5), np.int32)
    np.testing.assert_array_equal(keep_largest_component(empty), empty)
    one = np.eye(5, dtype=np.int32)
    np.testing.assert_array_equal(keep_largest_component(one), one)


def test_enclosed_background_takes_the_nearest_class():
    label = np.zeros((9, 9, 9), np.int32)
    label[1:8, 1:8, 1:8] = 1
    label[6, 1:8, 1:8] = 2
    whole = label.copy()
    label[3:6, 3:6, 3:6] = 0  # its last plane lies against class 2
    filled = fill_holes(label)
    assert filled.dtype == label.dtype
    np.testing.assert_array_equal(filled > 0, whole > 0)
    np.testing.assert_array_equal(filled[3, 4, 4], 1)
    np.testing.assert_array_equal(filled[5, 4, 4], 2)
    label[:4, 4, 4] = 0  # a channel to the border: no hole any more
    np.testing.assert_array_equal(fill_holes(label), label)
