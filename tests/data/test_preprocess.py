import dataclasses

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmedgen.data import preprocess
from jaxmedgen.data.nifti import read_volume, write_like, write_volume
from jaxmedgen.data.preprocess import Preprocessing


def blob(shape, spacing, centre_mm, width_mm=6.0):
    """A Gaussian in a volume whose first voxel centre lies at 0 mm."""
    axes = [np.arange(n) * s for n, s in zip(shape, spacing)]
    square = sum((x - c) ** 2 for x, c in zip(np.meshgrid(*axes, indexing="ij"), centre_mm))
    return np.exp(-square / (2 * width_mm**2)).astype(np.float32)


def centre_of_mass(values):
    index = np.stack(np.meshgrid(*map(np.arange, values.shape), indexing="ij"), -1)
    return (index * values[..., None]).reshape(-1, values.ndim).sum(0) / values.sum()


def dice(a, b):
    return 2 * np.sum(a & b) / (a.sum() + b.sum())


SHAPE, SPACING = (44, 52, 18), (1.0, 0.9, 2.5)
CENTRE = (21.0, 25.0, 22.0)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("shape", [None, (30, 36, 30)])
@pytest.mark.parametrize("target", [(1.5, 1.5, 1.5), (0.8, 1.0, 1.1), (2.3, 2.9, 3.1)])
def test_a_blob_stays_at_its_millimetres(order, shape, target):
    image = blob(SHAPE, SPACING, CENTRE)
    settings = Preprocessing(spacing=target, shape=shape, normalization="none", image_order=order)
    label = (image > 0.5).astype(np.int32)
    record, grid = settings.apply(SPACING, image[..., None], label)
    affine = grid.new_affine(np.diag([*SPACING, 1.0]))
    np.testing.assert_allclose(nib.affines.voxel_sizes(affine), target)
    place = nib.affines.apply_affine(affine, centre_of_mass(record["image"][..., 0]))
    np.testing.assert_allclose(place, CENTRE, atol=0.12)
    # A label moves by less than half a voxel of the coarser grid.
    moved = nib.affines.apply_affine(affine, centre_of_mass(record["label"]))
    moved = np.abs(moved - centre_of_mass(label) * SPACING)
    assert np.all(moved < 0.25 * np.maximum(SPACING, target))
    assert record["image"].dtype == np.float32 and record["label"].dtype == np.int32
    if shape is not None:
        assert record["image"].shape == (*shape, 1) and record["label"].shape == shape


@pytest.mark.parametrize("target", [(1.0, 1.0, 1.0), (0.7, 1.2, 2.0)])
@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
def test_labels_survive_the_round_trip(target, interpolation):
    image = blob(SHAPE, SPACING, CENTRE, width_mm=8.0)
    label = np.digitize(image, [0.3, 0.6]).astype(np.int32)
    settings = Preprocessing(spacing=target, shape=(60, 60, 60), label_interpolation=interpolation)
    record, grid = settings.apply(SPACING, label=label)
    back = preprocess.invert_label(record["label"], grid)
    assert back.shape == SHAPE and back.dtype == np.int32
    for value in (1, 2):
        assert dice(back == value, label == value) > 0.95
    probabilities = (record["label"][..., None] == np.arange(3)).astype(np.float32)
    soft = preprocess.invert_to_label(probabilities, grid)
    np.testing.assert_array_equal(
        soft, preprocess.invert_probabilities(probabilities, grid).argmax(-1)
    )
    assert dice(soft == 2, label == 2) > 0.95
    total = preprocess.invert_probabilities(probabilities, grid).sum(-1)
    np.testing.assert_allclose(total, 1, atol=1e-5)


def test_native_spacing_with_a_shape_is_exact():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(9, 12, 7, 1)).astype(np.float32)
    label = rng.integers(0, 4, (9, 12, 7)).astype(np.int32)
    settings = Preprocessing(spacing="native", shape=(16, 12, 12), normalization="none")
    record, grid = settings.apply((1.3, 0.7, 5.0), image, label)
    np.testing.assert_array_equal(preprocess.invert_label(record["label"], grid), label)
    np.testing.assert_array_equal(preprocess.invert_image(record["image"], grid), image)


def test_crop_to_nonzero_is_undone_too():
    image = np.zeros((20, 24, 16, 1), np.float32)
    image[5:15, 6:20, 4:12] = np.random.default_rng(0).normal(10, 1, (10, 14, 8, 1))
    label = (image[..., 0] > 10).astype(np.int32)
    record, grid = Preprocessing(spacing="native", crop_to_nonzero=True).apply(
        (1.0, 1.0, 1.0), image, label
    )
    assert record["label"].shape == (10, 14, 8)
    np.testing.assert_array_equal(preprocess.invert_label(record["label"], grid), label)


def test_normalizations():
    rng = np.random.default_rng(0)
    image = rng.normal(100, 15, (12, 12, 12, 1)).astype(np.float32)
    image[:4] = 0
    base = Preprocessing(spacing="native")
    z = base.normalize(image)
    np.testing.assert_allclose(z[4:].mean(), 0, atol=1e-4)
    np.testing.assert_allclose(z[4:].std(), 1, atol=1e-4)
    minmax = dataclasses.replace(base, normalization="minmax").normalize(image)
    assert minmax.min() == 0 and minmax.max() == 1
    percentile = dataclasses.replace(base, normalization="percentile").normalize(image)
    assert percentile.min() == 0 and percentile.max() == 1 and (percentile == 1).sum() >= 8
    none = dataclasses.replace(base, normalization="none").normalize(image)
    np.testing.assert_array_equal(none, image)


def test_ct_statistics_are_the_data_sets():
    rng = np.random.default_rng(0)
    foreground = rng.normal(60, 20, 20000)
    settings = Preprocessing(spacing="native", normalization="ct")
    image = rng.uniform(-1000, 1000, (8, 8, 8, 1)).astype(np.float32)
    with pytest.raises(ValueError, match="call fit"):
        settings.normalize(image)
    with pytest.raises(ValueError, match="needs foreground intensities"):
        settings.fit([(1.0,) * 3])
    fitted = settings.fit([(1.0,) * 3], [foreground])
    low, high = np.percentile(foreground, [0.5, 99.5])
    expected = (np.clip(image, low, high) - foreground.mean()) / foreground.std()
    np.testing.assert_allclose(fitted.normalize(image), expected, atol=1e-4)


def test_channels_have_their_own_normalization():
    rng = np.random.default_rng(0)
    image = rng.normal(50, 5, (6, 6, 6, 2)).astype(np.float32)
    settings = Preprocessing(spacing="native", normalization=("zscore", "minmax"))
    out = settings.normalize(image)
    assert abs(out[..., 0].mean()) < 1e-4 and out[..., 1].max() == 1
    with pytest.raises(ValueError, match="2 normalizations for 1 image channels"):
        settings.normalize(image[..., :1])


@pytest.mark.parametrize("name", ["zscore", "minmax", "percentile"])
def test_constant_channels_are_refused(name):
    settings = Preprocessing(spacing="native", normalization=name)
    with pytest.raises(ValueError, match="channel 0 is constant"):
        settings.normalize(np.full((4, 4, 1), 7.0, np.float32))


def test_fit_takes_the_median_spacing():
    fitted = Preprocessing().fit([(1.0, 1.0, 5.0), (0.8, 0.9, 3.0), (1.2, 1.1, 1.0)])
    assert fitted.spacing == (1.0, 1.0, 3.0)
    with pytest.raises(ValueError, match="call fit"):
        Preprocessing().apply((1.0, 1.0), label=np.zeros((4, 4), np.int32))
    with pytest.raises(ValueError, match="median spacing"):
        Preprocessing().fit([])


@pytest.mark.parametrize("shape", [(24, 24, 24), (32, 16, 24)])
def test_spacing_can_be_fitted_so_that_everything_is_in_the_shape(shape):
    spacings = [(1.0, 0.9, 2.5), (1.3, 1.3, 1.3)]
    shapes = [(44, 52, 18), (30, 47, 33)]
    fitted = Preprocessing(spacing="fit", shape=shape).fit(spacings, shapes=shapes)
    assert len(set(fitted.spacing)) == 1
    for size, spacing in zip(shapes, spacings):
        grid = fitted.grid_map(size, spacing)
        # Borders of the new grid in old voxels: nothing but the rounding to whole voxels is lost.
        scale = np.array(grid.scale)
        first = np.array(grid.shift) - scale / 2
        last = first + scale * grid.new_shape
        assert np.all(first <= -0.5 + scale / 2) and np.all(
            last >= np.array(size) - 0.5 - scale / 2
        )
    extents = np.array(shapes) * spacings / (np.array(shape) * fitted.spacing[0])
    assert 0.99 < extents.max() <= 1
    with pytest.raises(ValueError, match="needs the shape"):
        Preprocessing(spacing="fit")
    with pytest.raises(ValueError, match="still 'fit'"):
        Preprocessing(spacing="fit", shape=shape).grid_map((9, 9, 9), (1.0,) * 3)


def test_label_maps_alone_are_cropped_to_their_content():
    label = np.zeros((20, 24, 16), np.int32)
    label[5:15, 6:20, 4:12] = 2
    record, grid = Preprocessing(spacing="native", crop_to_nonzero=True).apply(
        (1.0,) * 3, label=label
    )
    assert record["label"].shape == (10, 14, 8) and record["label"].min() == 2
    np.testing.assert_array_equal(preprocess.invert_label(record["label"], grid), label)


def test_settings_survive_json():
    settings = Preprocessing(
        spacing=(1.0, 2.0), shape=(8, 8), normalization=("ct", "zscore"),
        ct_statistics=((-10.0, 200.0, 50.0, 30.0),) * 2, image_order=1,
    )  # fmt: skip
    assert Preprocessing.from_json(settings.to_json()) == settings
    with pytest.raises(ValueError, match=r"unknown preprocessing settings \['spicing'\]"):
        Preprocessing.from_json('{"spicing": [1, 1]}')


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"normalization": "z"}, "normalization 'z'"),
        ({"spacing": "median"}, "spacing 'median'"),
        ({"spacing": (1.0, 0.0)}, "not positive"),
        ({"shape": (0, 3)}, "not positive"),
        ({"image_order": 2}, "image_order 2"),
        ({"label_interpolation": "cubic"}, "'cubic'"),
    ],
)
def test_bad_settings_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**bad)


def test_wrong_number_of_axes_is_refused():
    with pytest.raises(ValueError, match="does not fit a volume"):
        Preprocessing(spacing=(1.0, 1.0)).apply((1.0,) * 3, label=np.zeros((4, 4, 4), np.int32))


@settings(max_examples=8, deadline=None)
@given(
    codes=st.sampled_from(["RAS", "LAS", "PSR", "LIA", "IPL"]),
    target=st.tuples(*[st.floats(0.8, 2.0)] * 3),
)
def test_from_file_to_file(tmp_path_factory, codes, target):
    """Read, preprocess, invert, write: the segmentation lies where it lay, in any orientation."""
    folder = tmp_path_factory.mktemp("whole")
    label = (blob((30, 32, 14), (1.0, 1.0, 2.5), (14.0, 16.0, 17.0), 7.0) > 0.5).astype(np.int32)
    write_volume(folder / "ras.nii.gz", label, np.diag([1.0, 1.0, 2.5, 1.0]))
    image = nib.load(folder / "ras.nii.gz")
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes)
    )
    nib.save(image.as_reoriented(turn), folder / "in.nii.gz")
    volume = read_volume(folder / "in.nii.gz", label=True)
    record, grid = Preprocessing(spacing=target).apply(volume.spacing, label=volume.array)
    write_like(folder / "out.nii.gz", preprocess.invert_label(record["label"], grid), volume)
    before, after = nib.load(folder / "in.nii.gz"), nib.load(folder / "out.nii.gz")
    np.testing.assert_array_equal(before.affine, after.affine)
    assert dice(np.asarray(before.dataobj) > 0, np.asarray(after.dataobj) > 0) > 0.94
