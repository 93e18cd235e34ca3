import numpy as np
import pytest

from jaxmedgen.data.folders import FolderSource
from jaxmedgen.data.grid_affines import upright
from jaxmedgen.data.image_slices import ImageSlices, thick_axis
from jaxmedgen.data.nnunet import write_case, write_description
from jaxmedgen.data.phantoms.label_stacks import label_stacks
from jaxmedgen.data.preprocess import Preprocessing
from jaxmedgen.data.sources import ArraySource, DatasetInfo

RNG = np.random.default_rng(0)


def volumes():
    """Two subjects with their slices along the last and, by its own spacing, the first axis."""
    info = DatasetInfo(("background", "heart"), ("cine",), (1.5, 1.5, 8.0), ("one", "two"))
    records = []
    for shape, spacing in (((6, 5, 3), (1.5, 1.5, 8.0)), ((4, 6, 5), (9.0, 1.5, 1.5))):
        label = np.zeros(shape, np.int32)
        label[1:3, 1:3, 1] = 1
        image = RNG.uniform(size=(*shape, 1)).astype(np.float32)
        records.append({"image": image, "label": label, "spacing": np.asarray(spacing)})
    return ArraySource(records, info)


def test_every_slice_is_a_sample_that_knows_its_volume():
    source = volumes()
    slices = ImageSlices(source)
    assert len(slices) == 3 + 4
    assert slices.info.spacing == (1.5, 1.5)
    assert slices.info.case_names[2:4] == ("one-002", "two-000")
    np.testing.assert_array_equal(slices[1]["image"], source[0]["image"][:, :, 1])
    np.testing.assert_array_equal(slices[4]["label"], source[1]["label"][1])
    window = np.percentile(source[1]["image"], (1, 99))
    np.testing.assert_allclose(slices[5]["window"][:, 0], window, rtol=1e-5)
    assert [place for place in ImageSlices(source, empty=False).places] == [(0, 1), (1, 1), (1, 2)]


def test_equal_spacings_have_the_last_axis_as_slices():
    assert thick_axis((1.0, 1.0, 1.0)) == 2
    assert thick_axis((2.0001, 2.0, 1.0)) == 1
    with pytest.raises(ValueError, match="three axes"):
        thick_axis((1.0, 1.0))


def test_an_nnunet_data_set_is_read_back(tmp_path):
    folder = tmp_path / "Dataset900_Synthetic"
    info = DatasetInfo(("background", "a", "b", "c"), ("cine", "t2"), (8.0, 2.5, 2.5), ())
    cases = []
    for number, (label, spacing) in enumerate(label_stacks(2, (32, 40), 4, seed=1)):
        image = RNG.normal(size=(*label.shape, 2)).astype(np.float32)
        cases.append((image, label, spacing))
        write_case(folder, f"case_{number}", image, label, upright(spacing))
    write_description(folder, info, 2)
    names = {p.name for p in folder.rglob("*.nii.gz")}
    assert names == {
        *(f"case_{i}_{k:04d}.nii.gz" for i in range(2) for k in range(2)),
        "case_0.nii.gz",
        "case_1.nii.gz",
    }
    source = FolderSource(folder, Preprocessing(spacing="native", normalization="none"))
    assert source.info.class_names == info.class_names
    assert source.info.channel_names == info.channel_names
    for index, (image, label, _) in enumerate(cases):
        np.testing.assert_allclose(source[index]["image"], image, rtol=1e-6)
        np.testing.assert_array_equal(source[index]["label"], label)


def test_a_slice_becomes_a_volume_of_one(tmp_path):
    import nibabel as nib

    label = np.ones((6, 5), np.int32)
    write_case(tmp_path, "flat", np.zeros((6, 5, 1), np.float32), label, upright((2.0, 3.0)))
    image = nib.load(tmp_path / "imagesTr" / "flat_0000.nii.gz")
    assert image.shape == (6, 5, 1)
    np.testing.assert_allclose(np.diag(image.affine)[:2], (2.0, 3.0))


def test_stacks_are_hearts_of_several_sizes():
    stacks = list(label_stacks(6, (64, 64), 8, seed=0))
    again = list(label_stacks(6, (64, 64), 8, seed=0))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(stacks, again))
    assert len({len(label) for label, _ in stacks}) > 1
    for label, spacing in stacks:
        assert set(np.unique(label)) == set(range(8))
        assert spacing[0] == pytest.approx(80 / len(label))
