"""Largest component: islands go, classes of the organ stay."""

import numpy as np

from jaxmedgen.data.postprocess import keep_largest_component


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
