import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmedgen.data import nifti
from jaxmedgen.data.nifti import DataError, read_volume, write_like

CODES = ["RAS", "LAS", "LPS", "PSR", "LIA", "SPL", "AIR"]


def rotation(degrees, axis):
    angle = np.deg2rad(degrees)
    i, j = [a for a in range(3) if a != axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = np.cos(angle)
    matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
    return matrix


def make_file(path, codes="RAS", shape=(5, 6, 7), spacing=(1.0, 2.5, 0.7), tilt=0.0, values=None):
    """A file in which every voxel stores a linear function of its place in mm."""
    upright = np.diag([*spacing, 1.0])
    upright[:3, :3] = rotation(tilt, 0) @ rotation(tilt / 2, 2) @ upright[:3, :3]
    upright[:3, 3] = [-11.0, 7.5, 3.25]
    to_codes = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes)
    )
    affine = upright @ nib.orientations.inv_ornt_aff(to_codes, shape)
    shape = nib.orientations.apply_orientation(np.zeros(shape), to_codes).shape
    if values is None:
        index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
        values = nib.affines.apply_affine(affine, index) @ [1.0, 20.0, 300.0]
    image = nib.Nifti1Image(values.astype(np.float32), affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=4)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("tilt", [0.0, 17.0])
def test_every_orientation_becomes_ras_and_voxels_stay_in_place(tmp_path, codes, tilt):
    volume = read_volume(make_file(tmp_path / "a.nii.gz", codes, tilt=tilt))
    assert nib.aff2axcodes(volume.affine) == ("R", "A", "S")
    assert volume.array.shape == (5, 6, 7) and volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.spacing, (1.0, 2.5, 0.7), rtol=1e-6)
    index = np.stack(np.meshgrid(*map(np.arange, (5, 6, 7)), indexing="ij"), -1)
    mm = nib.affines.apply_affine(volume.affine, index)
    np.testing.assert_allclose(volume.array, mm @ [1.0, 20.0, 300.0], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_write_like_gives_back_voxels_affine_and_codes(tmp_path, codes, suffix):
    path = make_file(tmp_path / f"in{suffix}", codes, tilt=12.0)
    volume = read_volume(path)
    write_like(tmp_path / f"out{suffix}", volume.array, volume)
    before, after = nib.load(path), nib.load(tmp_path / f"out{suffix}")
    np.testing.assert_array_equal(np.asarray(before.dataobj), np.asarray(after.dataobj))
    assert before.affine.tobytes() == after.affine.tobytes()
    for field in ("srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x", "pixdim", "qform_code",
                  "sform_code", "xyzt_units"):  # fmt: skip
        assert before.header[field].tobytes() == after.header[field].tobytes(), field
    assert (int(after.header["qform_code"]), int(after.header["sform_code"])) == (1, 4)


@settings(max_examples=20, deadline=None)
@given(
    codes=st.permutations(["LR", "PA", "IS"]).flatmap(
        lambda axes: st.tuples(*[st.sampled_from(a) for a in axes]).map("".join)
    ),
    shape=st.tuples(*[st.integers(2, 6)] * 3),
    tilt=st.floats(-40, 40),
)
def test_label_round_trip_for_any_orientation(tmp_path_factory, codes, shape, tilt):
    folder = tmp_path_factory.mktemp("round")
    path = make_file(folder / "in.nii.gz", codes, shape=shape, tilt=tilt)
    before = nib.load(path)
    rng = np.random.default_rng(0)
    volume = read_volume(path)
    labels = rng.integers(0, 300, volume.array.shape).astype(np.int32)
    write_like(folder / "out.nii.gz", labels, volume)
    again = read_volume(folder / "out.nii.gz", label=True)
    np.testing.assert_array_equal(again.array, labels)
    assert nib.load(folder / "out.nii.gz").affine.tobytes() == before.affine.tobytes()
    assert nib.load(folder / "out.nii.gz").shape == before.shape


def test_channels_come_last_both_ways(tmp_path):
    values = np.random.default_rng(0).normal(size=(7, 5, 6, 3))
    path = make_file(tmp_path / "in.nii.gz", "SRA", values=values)
    volume = read_volume(path)
    assert volume.array.shape == (5, 6, 7, 3) and volume.spatial_shape == (5, 6, 7)
    write_like(tmp_path / "out.nii.gz", volume.array, volume)
    np.testing.assert_array_equal(
        np.asarray(nib.load(tmp_path / "out.nii.gz").dataobj), values.astype(np.float32)
    )
    write_like(tmp_path / "seg.nii.gz", volume.array[..., 0] > 0, volume)
    segmentation = nib.load(tmp_path / "seg.nii.gz")
    assert segmentation.shape == (7, 5, 6) and segmentation.get_data_dtype() == np.uint8
    with pytest.raises(DataError, match="no fourth axis"):
        read_volume(path, label=True)


@pytest.mark.parametrize(("codes", "axis"), [("RAS", 2), ("LPS", 1), ("PSR", 0)])
def test_single_slices_are_two_dimensional(tmp_path, codes, axis):
    shape = tuple(1 if a == axis else n for a, n in enumerate((5, 6, 7)))
    path = make_file(tmp_path / "in.nii", codes, shape=shape)
    volume = read_volume(path)
    kept = [a for a in range(3) if a != axis]
    assert volume.array.shape == tuple((5, 6, 7)[a] for a in kept)
    np.testing.assert_allclose(volume.spacing, [(1.0, 2.5, 0.7)[a] for a in kept], rtol=1e-6)
    assert nifti.read_grid(path) == (volume.array.shape, volume.spacing)
    write_like(tmp_path / "out.nii", volume.array, volume)
    before, after = nib.load(path), nib.load(tmp_path / "out.nii")
    np.testing.assert_array_equal(np.asarray(before.dataobj), np.asarray(after.dataobj))


def test_files_with_two_axes(tmp_path):
    data = np.arange(12, dtype=np.int16).reshape(3, 4)
    nib.save(nib.Nifti1Image(data, np.diag([-1.0, 2.0, 1.0, 1.0])), tmp_path / "in.nii.gz")
    volume = read_volume(tmp_path / "in.nii.gz", label=True)
    np.testing.assert_array_equal(volume.array, data[::-1])
    assert volume.spacing == (1.0, 2.0)
    write_like(tmp_path / "out.nii.gz", volume.array, volume)
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "out.nii.gz").dataobj), data)


def test_scaled_integers_big_endian_nifti2_and_mgh(tmp_path):
    values = np.random.default_rng(0).integers(0, 99, (4, 5, 6))
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    scaled = nib.Nifti1Image(values.astype(np.int16), affine)
    scaled.header.set_slope_inter(0.5, 10.0)
    nib.save(scaled, tmp_path / "scaled.nii.gz")
    expected = np.asarray(nib.load(tmp_path / "scaled.nii.gz").dataobj)
    np.testing.assert_allclose(read_volume(tmp_path / "scaled.nii.gz").array, expected)
    swapped = nib.Nifti1Image(values.astype(">i2"), affine, nib.Nifti1Header(endianness=">"))
    nib.save(swapped, tmp_path / "big.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "big.nii", label=True).array, values)
    for kind, name in ((nib.Nifti2Image, "two.nii.gz"), (nib.MGHImage, "free.mgz")):
        nib.save(kind(values.astype(np.int32), affine), tmp_path / name)
        volume = read_volume(tmp_path / name, label=True)
        np.testing.assert_array_equal(volume.array, values)
        write_like(tmp_path / "out.nii.gz", volume.array, volume)
        again = nib.load(tmp_path / "out.nii.gz")
        np.testing.assert_array_equal(np.asarray(again.dataobj), values)
        np.testing.assert_array_equal(again.affine, nib.load(tmp_path / name).affine)
        assert isinstance(again, nib.Nifti2Image) == (kind is nib.Nifti2Image)


def test_read_grid_agrees_with_read_volume(tmp_path):
    for codes in CODES:
        path = make_file(tmp_path / "a.nii.gz", codes, tilt=12.0)
        volume = read_volume(path)
        shape, spacing = nifti.read_grid(path)
        assert shape == volume.array.shape
        np.testing.assert_allclose(spacing, volume.spacing, rtol=1e-6)


def test_patient_text_is_not_copied(tmp_path):
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.float32), np.eye(4))
    image.header["descrip"] = b"John Doe"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"John Doe"))
    nib.save(image, tmp_path / "in.nii")
    volume = read_volume(tmp_path / "in.nii")
    write_like(tmp_path / "out.nii", volume.array, volume)
    assert b"John" in (tmp_path / "in.nii").read_bytes()
    assert b"John" not in (tmp_path / "out.nii").read_bytes()


def test_write_volume_and_stored_types(tmp_path):
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    nifti.write_volume(tmp_path / "new/a.nii.gz", np.full((2, 3, 4), 1000), affine)
    image = nib.load(tmp_path / "new/a.nii.gz")
    assert image.get_data_dtype() == np.int16 and image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(image.affine, affine)
    nifti.write_volume(tmp_path / "b.nii.gz", np.full((2, 3, 4), 0.1), affine)
    assert nib.load(tmp_path / "b.nii.gz").get_data_dtype() == np.float32
    first = (tmp_path / "b.nii.gz").read_bytes()
    nifti.write_volume(tmp_path / "c.nii.gz", np.full((2, 3, 4), 0.1), affine)
    assert (tmp_path / "c.nii.gz").read_bytes() == first


def test_wrong_grid_and_wrong_name_are_refused(tmp_path):
    volume = read_volume(make_file(tmp_path / "a.nii"))
    with pytest.raises(DataError, match=r"\(5, 6, 6\) is not on the grid \(5, 6, 7\)"):
        write_like(tmp_path / "b.nii", np.zeros((5, 6, 6)), volume)
    with pytest.raises(DataError, match=r"written as .nii"):
        write_like(tmp_path / "b.mgz", volume.array, volume)


@pytest.mark.parametrize(
    ("value", "message"),
    [(0.5, "value 0.5"), (-1.0, "values -1 to 0"), (np.nan, "NaN"), (3e9, "labels start at 0")],
)
def test_label_maps_hold_class_numbers(tmp_path, value, message):
    values = np.zeros((3, 3, 3))
    values[1, 1, 1] = value
    path = make_file(tmp_path / "a.nii", shape=(3, 3, 3), values=values)
    with pytest.raises(DataError, match=message):
        read_volume(path, label=True)


def test_float_labels_with_rounding_noise_are_taken(tmp_path):
    path = make_file(tmp_path / "a.nii", shape=(3, 3, 3), values=np.full((3, 3, 3), 2.00001))
    assert np.all(read_volume(path, label=True).array == 2)


def test_file_names():
    assert nifti.stem("x/case.1_0000.nii.gz") == "case.1_0000"
    assert nifti.stem("aseg.mgz") == "aseg"
    assert nifti.is_volume_file("a.NII.GZ") and not nifti.is_volume_file(".a.nii")
    assert not nifti.is_volume_file("a.json")
