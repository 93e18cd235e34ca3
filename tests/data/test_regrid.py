import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from jaxmedgen.data import regrid
from jaxmedgen.data.regrid import GridMap

MAP = GridMap((0.7, 1.6, 1.0), (0.3, -0.2, 2.0), (9, 11, 8), (12, 7, 5))


def places(grid):
    axes = [a * np.arange(m) + b for a, b, m in zip(grid.scale, grid.shift, grid.new_shape)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


@pytest.mark.parametrize("order", [1, 3])
def test_interpolation_is_scipys(order):
    image = np.random.default_rng(0).normal(size=(9, 11, 8, 2)).astype(np.float32)
    got = regrid.resample_image(image, MAP, order=order, anti_alias=False)
    for c in range(2):
        clipped = [np.clip(p, 0, n - 1) for p, n in zip(places(MAP), MAP.old_shape)]
        expected = ndimage.map_coordinates(
            image[..., c].astype(np.float64), clipped, order=order, mode="mirror"
        )
        np.testing.assert_allclose(got[..., c], expected, atol=2e-5)


def test_nearest_takes_the_nearest():
    label = np.random.default_rng(0).integers(0, 9, (9, 11, 8)).astype(np.int32)
    got = regrid.resample_label(label, MAP, interpolation="nearest")
    nearest = np.rint(places(MAP)).astype(int)
    inside = np.all([(p >= 0) & (p < n) for p, n in zip(nearest, label.shape)], axis=0)
    expected = np.where(
        inside, label[tuple(np.clip(p, 0, n - 1) for p, n in zip(nearest, label.shape))], 0
    )
    np.testing.assert_array_equal(got, expected)


def test_linear_labels_are_the_argmax_of_resampled_indicators():
    rng = np.random.default_rng(0)
    label = ndimage.zoom(rng.integers(0, 5, (3, 4, 3)), 3, order=0)[:9, :11, :8].astype(np.int32)
    got = regrid.resample_label(label, MAP)
    indicators = (label[..., None] == np.arange(5)).astype(np.float32)
    shares = regrid.resample_image(
        indicators, MAP, order=1, anti_alias=False, fill=np.eye(5, dtype=np.float32)[0]
    )
    ordered = np.sort(shares, axis=-1)
    clear = ordered[..., -1] - ordered[..., -2] > 1e-3
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(got[clear], shares.argmax(-1)[clear])


def test_anti_aliasing_removes_what_the_new_grid_cannot_show():
    stripes = np.tile(np.float32([1, -1]), 24)[:, None, None] * np.ones((48, 2, 1), np.float32)
    grid = regrid.respace((48, 2), (1.0, 1.0), (5.0, 1.0))
    sharp = regrid.resample_image(stripes, grid, order=1, anti_alias=False)
    smooth = regrid.resample_image(stripes, grid, order=1, anti_alias=True)
    # The ends repeat their last voxel, so the smoothing cannot cancel the stripes there.
    assert np.abs(sharp[1:-1]).max() > 0.3 and np.abs(smooth[1:-1]).max() < 0.02
    constant = regrid.resample_image(np.ones((48, 2, 1), np.float32), grid)
    np.testing.assert_allclose(constant, 1, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    spacing=st.tuples(st.floats(0.3, 4), st.floats(0.3, 4)),
    target=st.tuples(st.floats(0.3, 4), st.floats(0.3, 4)),
)
def test_respacing_keeps_the_centre_and_composes_with_its_inverse(shape, spacing, target):
    grid = regrid.respace(shape, spacing, target)
    for n, m, a, b in zip(shape, grid.new_shape, grid.scale, grid.shift):
        assert abs(a * (m - 1) / 2 + b - (n - 1) / 2) < 1e-9
        assert abs(n - a * m) <= a / 2 + 1e-9 or m == 1
    back = grid.then(grid.inverse())
    np.testing.assert_allclose(back.scale, 1, atol=1e-9)
    np.testing.assert_allclose(back.shift, 0, atol=1e-9)
    constant = regrid.resample_image(np.full((*shape, 1), 3.0, np.float32), grid, order=3)
    # Borders may lie up to half a new voxel outside and are then fill.
    assert np.all(np.isclose(constant, 3.0, atol=1e-4) | (constant == 0))


def test_crop_and_pad_copy_voxels():
    image = np.random.default_rng(0).normal(size=(5, 8, 1)).astype(np.float32)
    grid = regrid.crop_or_pad((5, 8), (9, 4))
    assert grid.is_crop()
    out = regrid.resample_image(image, grid, fill=-1.0)
    np.testing.assert_array_equal(out[2:7], image[:, 2:6])
    assert np.all(out[:2] == -1) and np.all(out[7:] == -1)
    label = np.arange(40, dtype=np.int32).reshape(5, 8)
    np.testing.assert_array_equal(regrid.resample_label(label, grid)[2:7], label[:, 2:6])


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
def test_halving_changes_no_class_in_size(interpolation):
    """New centres lie exactly between two voxels: ties must not all go to one class."""
    rng = np.random.default_rng(0)
    label = np.zeros((200, 80), np.int32)
    for column in range(80):
        for i in range(0, 200, 10):
            top = i + rng.integers(0, 4)
            label[top : top + 3, column] = 1
            label[top + 3 : top + 5, column] = 2
    grid = regrid.respace(label.shape, (1.0, 1.0), (2.0, 1.0))
    small = regrid.resample_label(label, grid, interpolation=interpolation)
    for value in range(3):
        assert abs(2 * (small == value).sum() / (label == value).sum() - 1) < 0.05


def test_bad_maps_and_orders_are_refused():
    with pytest.raises(ValueError, match="cannot chain"):
        MAP.then(MAP)
    with pytest.raises(ValueError, match="order 2"):
        regrid.axis_weights(1.0, 0.0, 4, 4, order=2)
    with pytest.raises(ValueError, match="'cubic' is not"):
        regrid.resample_label(np.zeros((9, 11, 8), np.int32), MAP, interpolation="cubic")


def test_probabilities_become_labels_class_by_class():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), size=(9, 11, 8)).astype(np.float32)
    got = regrid.label_from_probabilities(probabilities, MAP)
    whole = regrid.resample_image(probabilities, MAP, order=1, fill=np.eye(4, dtype=np.float32)[0])
    np.testing.assert_array_equal(got, whole.argmax(-1))
