import numpy as np
import pytest
from scipy import ndimage

from jaxmedgen.ops.slice_interpolation import interpolate_labels, signed_distance_maps


def disc(radius, size=41):
    x = np.arange(size) - size // 2
    return (np.hypot(x[:, None], x) <= radius).astype(np.int32)


def test_discs_shrink_evenly_between_slices():
    stack = np.stack([disc(14), disc(6)])
    made = interpolate_labels(stack, np.asarray([0.0, 0.25, 0.5, 1.0]), classes=2, limit=20)
    np.testing.assert_array_equal(made[[0, 3]], stack)
    radius = np.sqrt(made.sum((1, 2)) / np.pi)
    np.testing.assert_allclose(radius[1:3], [12, 10], atol=0.35)


def test_nearest_repeats_slices():
    stack = np.arange(3)[:, None, None] * np.ones((1, 2, 2), np.int32)
    made = interpolate_labels(stack, np.asarray([0.4, 0.5, 0.6, 2.0]), classes=3, method="nearest")
    np.testing.assert_array_equal(made[:, 0, 0], [0, 0, 1, 2])


def test_a_class_that_ends_is_gone_before_the_next_slice():
    stack = np.stack([disc(5), 0 * disc(5)])
    made = interpolate_labels(stack, np.linspace(0, 1, 9), classes=2)
    areas = made.sum((1, 2))
    assert (np.diff(areas) <= 0).all() and areas[1] > 0 and areas[-1] == 0


def test_distances_are_zero_midway_between_voxels():
    label = disc(6)
    maps = signed_distance_maps(label, 2)
    inside = label == 1
    np.testing.assert_allclose(
        maps[inside, 1], 0.5 - ndimage.distance_transform_edt(inside)[inside]
    )
    np.testing.assert_allclose(maps[..., 0], -maps[..., 1])
    assert (signed_distance_maps(label, 3, limit=4)[..., 2] == 4).all()


def test_positions_beyond_the_stack_are_named():
    with pytest.raises(ValueError, match="leave the stack of 2 slices"):
        interpolate_labels(np.stack([disc(3)] * 2), np.asarray([1.5]), classes=2)
