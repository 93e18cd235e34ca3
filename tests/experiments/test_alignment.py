"""Label maps of different pose, size and orientation end in one frame, with their values kept."""

import nibabel as nib
import numpy as np
import pytest

from jaxmedgen.data.nifti import read_volume
from jaxmedgen.data.untrusted import DataError
from jaxmedgen.experiments.alignment import align_label_maps
from jaxmedgen.metrics.groupwise import mean_pairwise_dice


def _body(shift, scale, flipped):
    """An egg with an off-centre yolk of value 40 in a field of view of 80 mm."""
    grid = np.stack(np.meshgrid(*[np.arange(20) * 4.0 - 38] * 3, indexing="ij"), -1)
    points = (grid - shift) / scale
    egg = np.sum((points / (24, 16, 18)) ** 2, -1) < 1
    yolk = np.sum(((points - (8, 3, 0)) / 9) ** 2, -1) < 1
    label, affine = (egg + 39 * (egg & yolk)).astype(np.int16), np.diag([4.0, 4, 4, 1])
    if flipped:  # the same body, stored from left to right the other way round
        label, affine = label[::-1], np.diag([-4.0, 4, 4, 1])
        affine[0, 3] = 19 * 4
    return label, affine


def test_maps_are_brought_into_one_frame(tmp_path):
    source, output = tmp_path / "maps", tmp_path / "aligned"
    source.mkdir()
    bodies = [(0, 1.0, False), ((6, -4, 3), 1.15, True), ((-5, 3, 0), 0.9, False)]
    for number, body in enumerate(bodies):
        nib.save(nib.Nifti1Image(*_body(*body)), source / f"s{number}.nii.gz")
    files = align_label_maps(source, output, {1: 1, 40: 2}, ("s0", "s1"))
    volumes = [read_volume(file, label=True) for file in files]
    assert [file.name for file in files] == ["s0.nii.gz", "s1.nii.gz", "s2.nii.gz"]
    assert {volume.spacing for volume in volumes} == {(1.0, 1.0, 1.0)}
    maps = np.stack([volume.array for volume in volumes])
    assert set(np.unique(maps)) == {0, 1, 40}
    # Voxels of 4 mm are shown as blocks: equal bodies reach no more than this.
    assert mean_pairwise_dice((maps > 0).astype(np.int32), 2) > 0.87
    assert mean_pairwise_dice((maps == 40).astype(np.int32), 2) > 0.75
    before = [file.stat().st_mtime_ns for file in files]
    align_label_maps(source, output, {1: 1, 40: 2}, ("s0", "s1"))
    assert [file.stat().st_mtime_ns for file in files] == before


def test_what_cannot_be_aligned(tmp_path):
    for name, value in (("a", 1), ("b", 7)):
        label = np.full((4, 4, 4), value, np.int16)
        nib.save(nib.Nifti1Image(label, np.eye(4)), tmp_path / f"{name}.nii.gz")
    with pytest.raises(DataError, match="name two or more"):
        align_label_maps(tmp_path, tmp_path / "out", {1: 1}, ("a", "c"))
    with pytest.raises(DataError, match=r"b\.nii\.gz: no 3D map with foreground"):
        align_label_maps(tmp_path, tmp_path / "out", {1: 1}, ("a", "b"))
