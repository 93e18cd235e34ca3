"""Planes in files and folds."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxmedgen.data import planes as module
from jaxmedgen.data.nifti import write_volume
from jaxmedgen.data.phantoms.fetal_skull import FetalSkull
from jaxmedgen.data.planes import VIEWS, PlaneFolder, find_planes, plane_parts, read_planes
from jaxmedgen.data.untrusted import DataError

AFFINE = np.diag([150 / 16] * 3 + [1.0])


def write_cases(folder, count=3, views=VIEWS):
    source = FetalSkull(count, (16,) * 3)
    for name in ("planes", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, record in zip(source.info.case_names, source):
        for number, view in enumerate(VIEWS):
            if view in views:
                path = folder / "planes" / f"{name}_{view}.nii.gz"
                write_volume(path, record["planes"][..., number], AFFINE)
        write_volume(folder / "labels" / f"{name}.nii.gz", record["label"], AFFINE)
    return source


def test_files_give_back_what_was_written(tmp_path):
    source = write_cases(tmp_path, 2)
    for path in (tmp_path / "planes").glob("sub-00001*_coronal*"):
        path.unlink()
    found = PlaneFolder(tmp_path, 16)
    assert found.info.case_names == source.info.case_names
    assert found.info.spacing == source.info.spacing
    whole, partial = found[0], found[1]
    np.testing.assert_allclose(whole["planes"], source[0]["planes"], atol=1e-6)
    np.testing.assert_array_equal(partial["available"], [1, 1, 0])
    assert not partial["planes"][..., 2].any()
    assert whole["label"].sum() == source[0]["label"].sum() > 0
    occupied = np.argwhere(whole["label"])
    assert np.all(np.abs(occupied.min(0) + occupied.max(0) - 15) <= 1)  # in the grid's middle


def test_the_size_in_mm_is_kept():
    spacing = (0.5, 0.8)
    grid = np.stack(np.meshgrid(np.arange(301), np.arange(201), indexing="ij"), -1)
    disc = np.linalg.norm((grid - (150, 100)) * spacing, axis=-1) < 30
    found = module.to_field_of_view(disc, spacing, 96)
    area = found.sum() * (150 / 96) ** 2
    np.testing.assert_allclose(area, np.pi * 30**2, rtol=0.01)
    moved = module.to_field_of_view(disc, spacing, 96, centre=(150 + 40, 100))
    rows = np.arange(96) @ moved.sum(1) / moved.sum() - np.arange(96) @ found.sum(1) / found.sum()
    np.testing.assert_allclose(rows, -40 * 0.5 / (150 / 96), atol=0.05)


def test_broken_planes_are_named(tmp_path):
    write_cases(tmp_path, 1)
    paths = find_planes(tmp_path / "planes")["sub-00000_scan-1"]
    write_volume(paths["axial"], np.zeros((16, 16)), AFFINE)
    with pytest.raises(DataError, match=r"_axial.*the plane is empty"):
        read_planes(paths, 16)
    write_volume(paths["axial"], np.ones((16, 16, 4)), AFFINE)
    with pytest.raises(DataError, match="no single slice"):
        read_planes(paths, 16)
    with pytest.raises(DataError, match="no plane of any view"):
        read_planes({}, 16)
    write_volume(tmp_path / "labels" / "sub-00000_scan-1.nii.gz", np.zeros((8,) * 3, int), AFFINE)
    with pytest.raises(DataError, match="the mask is empty"):
        module.read_mask(tmp_path / "labels" / "sub-00000_scan-1.nii.gz", 16)
    write_volume(tmp_path / "planes" / "sub-1_oblique.nii.gz", np.ones((8, 8)), AFFINE)
    with pytest.raises(DataError, match="name it NAME_VIEW"):
        find_planes(tmp_path / "planes")


def settings(**changes):
    base = {"folder": "", "shape": (16,) * 3, "train": 8, "validation": 0, "test": 4, "seed": 0,
            "shell": False, "shadow": 0.0, "scans": 1, "folds": 0, "fold": 0}  # fmt: skip
    return ConfigDict(base | changes)


def test_a_fetus_never_parts(tmp_path):
    tested = []
    for fold in range(3):
        train, _, test = plane_parts(settings(scans=2, folds=3, fold=fold))
        groups = [{name[:9] for name in part.info.case_names} for part in (train, test)]
        assert not groups[0] & groups[1] and len(train) + len(test) == 24
        tested += test.info.case_names
    assert len(tested) == len(set(tested)) == 24
    train, validation, test = plane_parts(settings())
    assert (len(train), len(validation), len(test)) == (8, 0, 4)
    with pytest.raises(ValueError, match=r"data\.scans=2"):
        plane_parts(settings(scans=2))
    with pytest.raises(ValueError, match=r"data\.fold=3"):
        plane_parts(settings(folds=3, fold=3))
    write_cases(tmp_path, 3)
    train, _, test = plane_parts(settings(folder=str(tmp_path)))
    assert (len(train), len(test)) == (2, 1)
