"""One grid for folders of different voxels, and sets whose intensities cannot be compared."""

import nibabel as nib
import numpy as np
import pytest

from jaxmedgen.data.phantoms.heart_slices import HeartSlices
from jaxmedgen.data.sources import in_memory
from jaxmedgen.experiments.synthetic.comparable import (
    check_scales,
    common_window,
    read_folder,
    voxel_notes,
)
from jaxmedgen.experiments.synthetic.realism_run import evaluate_realism, halves
from jaxmedgen.metrics.image_quality import range_notes


def write_balls(folder, shape, spacing, value=1):
    """Two scans of a bright ellipsoid: 16 mm wide within slices, 24 mm across them."""
    centre = (np.asarray(shape) - 1) / 2
    places = (np.moveaxis(np.indices(shape), 0, -1) - centre) * spacing / (8, 8, 12)
    inside = (places**2).sum(-1) <= 1
    for name, array in (("images", 5.0 * inside), ("labels", value * inside)):
        (folder / name).mkdir(parents=True)
        for case in ("a", "b"):
            dtype = np.float32 if name == "images" else np.uint8
            file = nib.Nifti1Image(array.astype(dtype), np.diag([*spacing, 1.0]))
            nib.save(file, folder / name / f"{case}.nii.gz")
    return str(folder)


def test_folders_of_different_voxels_come_onto_the_real_ones_grid(tmp_path):
    real = read_folder(write_balls(tmp_path / "real", (24, 24, 5), (1.0, 1.0, 8.0)), (12, 12, 5))
    made = write_balls(tmp_path / "made", (80, 80, 10), (0.5, 0.5, 4.0))
    synthetic = read_folder(made, (12, 12, 5), like=real)
    # Half as many voxels within slices; thick slices stay as they are.
    assert real.info.spacing == synthetic.info.spacing == (2.0, 2.0, 8.0)
    volume = 4 / 3 * np.pi * 8 * 8 * 12 / (2 * 2 * 8)
    for source in (real, synthetic):
        label = source[0]["label"]
        assert label.shape == (12, 12, 5)
        assert label.sum() == pytest.approx(volume, rel=0.25)
        assert tuple(np.ptp(np.argwhere(label), 0) + 1) == (8, 8, 3)
    assert not voxel_notes({"real": real, "synthetic": synthetic})
    alone = read_folder(made, (12, 12, 5))
    assert "other sizes in voxels" in voxel_notes({"real": real, "synthetic": alone})[0]
    with pytest.raises(ValueError, match=r"--shape 12,12: images of .* have 3 axes"):
        read_folder(made, (12, 12))


def test_labels_keep_the_values_of_their_files(tmp_path):
    """Where a structure is missing, numbers of classes would be those of other structures."""
    for value in (1, 7):
        folder = write_balls(tmp_path / str(value), (12, 12, 5), (1.0, 1.0, 8.0), value)
        assert set(np.unique(read_folder(folder)[0]["label"])) == {0, value}


def test_intensities_on_other_scales_are_refused():
    rng = np.random.default_rng(0)
    real = rng.uniform(0, 1, (4, 8, 8, 1)).astype(np.float32)
    check_scales({"real": real, "held-out": 0.9 * real, "synthetic": 0.7 * real + 0.1})
    for other in (2 * real - 1, 800 * real, real + 5, 0.3 * real):
        with pytest.raises(ValueError, match=r"real images lie in \[0.*synthetic ones in.*--st"):
            check_scales({"real": real, "held-out": real, "synthetic": other})
    both = np.concatenate([real, real], -1)  # one channel of two
    with pytest.raises(ValueError, match="--standardize"):
        check_scales({"real": both, "synthetic": both * np.float32([1, 9])})
    assert not range_notes({"real": real}, 1.0)
    assert "real images span 0.99" in range_notes({"real": real}, 255)[0]


def test_a_window_needs_intensities():
    flat = np.full((2, 40, 40, 1), 7.0, np.float32)
    flat[0, 0, 0] = 100.0
    with pytest.raises(ValueError, match="intensity 7: there is nothing"):
        common_window(flat)
    assert common_window(flat, standardized=True) == (-3.0, 3.0)


def test_the_realism_of_another_scale_is_not_measured(tmp_path):
    hearts = in_memory(HeartSlices(4, shape=(32, 32), seed=7))
    train, held_out = halves(hearts)
    bright = in_memory(HeartSlices(4, shape=(32, 32), seed=8))
    for record in bright.records:
        record["image"] = 300 * np.asarray(record["image"])
    with pytest.raises(ValueError, match="the synthetic ones in"):
        evaluate_realism(train, bright, tmp_path, held_out=held_out)
    large = in_memory(HeartSlices(2, shape=(40, 40), seed=8))
    with pytest.raises(ValueError, match=r"different sizes.*--shape"):
        evaluate_realism(train, large, tmp_path, held_out=held_out)
