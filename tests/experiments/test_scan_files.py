"""Scans and references in files: what training reads prediction reads, and refuses likewise."""

import io

import numpy as np
import pytest
from rich.console import Console

from jaxmedgen.configuration import load_config
from jaxmedgen.data.checks import read_case
from jaxmedgen.data.folders import FolderSource
from jaxmedgen.data.nifti import read_volume
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.data.untrusted import DataError
from jaxmedgen.experiments import prediction
from jaxmedgen.experiments.runs import TrainedRun
from jaxmedgen.experiments.scan_files import (
    find_cases,
    find_references,
    read_reference,
    read_scan,
)
from tests.data.making_folders import SHAPE, save, scan, seg
from tests.experiments.grey_folders import PLAIN, ByGrey, trained_on, write


def test_incomplete_and_ambiguous_scans_are_listed_as_in_training(tmp_path):
    for number, name in enumerate(("a_0000", "a_0001", "b_0000", "b_0001", "c_0000")):
        save(tmp_path / f"{name}.nii.gz", scan(number))
    save(tmp_path / "a_0000.nii", scan(9))
    with pytest.raises(DataError) as caught:
        find_cases(tmp_path, 2)
    first, *others = str(caught.value).splitlines()
    assert first.startswith(f"{tmp_path}: 2 problems") and len(others) == 2
    assert any("c_0000.nii.gz: channel 0001 is missing" in line for line in others)
    assert any("same name but for its ending" in line for line in others)
    (tmp_path / "c_0000.nii.gz").unlink()
    (tmp_path / "a_0000.nii").unlink()
    assert [case.name for case in find_cases(tmp_path, 2)] == ["a", "b"]


@pytest.fixture
def joined(tmp_path):
    """Scans whose two channels lie along a fourth axis."""
    for number in range(2):
        both = np.stack([scan(number), scan(10 + number)], axis=-1)
        save(tmp_path / f"images/s{number}.nii.gz", both)
        save(tmp_path / f"labels/s{number}.nii.gz", seg(number))
    return tmp_path


def test_channels_along_a_fourth_axis(joined):
    source = FolderSource(joined, PLAIN)
    run = TrainedRun(joined, load_config("unet:cpu"), source.info, PLAIN, ByGrey())
    for given in (joined / "images", joined / "images" / "s0.nii.gz"):
        case = find_cases(given, 2)[0]
        image, volume = read_scan(run, case, of_labels=False)
        np.testing.assert_array_equal(image, source[0]["image"])
        assert volume.path == joined / "images" / "s0.nii.gz"
        for channels in (1, 3):
            with pytest.raises(DataError, match="has 2 volumes along its fourth axis"):
                find_cases(given, channels)


def test_a_single_file_of_one_channel_is_not_enough_for_two(tmp_path):
    save(tmp_path / "scan.nii.gz", scan(0))
    with pytest.raises(DataError, match="is one file but the run has 2 channels"):
        find_cases(tmp_path / "scan.nii.gz", 2)


@pytest.mark.parametrize(("apart", "fits"), [(0.05, True), (0.5, False)])
def test_channels_lie_together_as_training_asks(tmp_path, apart, fits):
    save(tmp_path / "s_0000.nii.gz", scan(0))
    save(tmp_path / "s_0001.nii.gz", scan(1), origin=(apart, 0.0, 0.0))
    (case,) = find_cases(tmp_path, 2)
    info = DatasetInfo(("background",), ("a", "b"), (1.0, 1.0, 2.0), ())
    run = TrainedRun(tmp_path, load_config("unet:cpu"), info, PLAIN, ByGrey())
    if fits:
        image, _ = read_scan(run, case, of_labels=False)
        np.testing.assert_array_equal(image, read_case(case).image)
    else:
        with pytest.raises(DataError, match=r"s_0001.nii.gz: lies up to 0.5 mm away"):
            read_scan(run, case, of_labels=False)


def test_translated_channels_stay_in_one_file(joined, tmp_path, monkeypatch):
    class Darker(ByGrey):
        domain_names = ("dark",)

        def translate(self, variables, keys, image, target):
            return image - 1

    source = FolderSource(joined, PLAIN)
    run = TrainedRun(joined, load_config("unet:cpu"), source.info, PLAIN, Darker())
    monkeypatch.setattr(TrainedRun, "variables", lambda *_: ({}, 1))
    monkeypatch.setattr(prediction, "open_run", lambda _: run)
    given = {"target": "dark", "console": Console(quiet=True)}
    prediction.predict_files(joined, joined / "images", tmp_path / "out", **given)
    made = read_volume(tmp_path / "out" / "s0.nii.gz")
    assert made.array.shape == (*SHAPE, 2)
    np.testing.assert_allclose(made.array, source[0]["image"] - 1, atol=1e-4)


@pytest.fixture
def run(tmp_path):
    """Trained on values 1 and 4."""
    return trained_on(write(tmp_path / "trained", {"edema": 1, "tumour": 4}))


@pytest.mark.parametrize("trusted", [True, False])
def test_a_reference_must_be_on_the_scans_grid(run, tmp_path, trusted):
    here = read_volume(run.workdir / "images" / "a.nii.gz")
    near, far, small = (tmp_path / f"{name}.nii.gz" for name in ("near", "far", "small"))
    label = seg(0, (0, 1, 4))
    save(near, label, origin=(0.05, 0, 0))
    save(far, label, origin=(50.0, 0, 0))
    save(small, label[1:])
    found = read_reference(run, near, here, trusted=trusted)
    assert np.unique(found).tolist() == [0, 1, 2]
    with pytest.raises(DataError, match=r"small.nii.gz: shape"):
        read_reference(run, small, here, trusted=trusted)
    if trusted:
        with pytest.raises(DataError, match=r"far.nii.gz: lies up to 50 mm away"):
            read_reference(run, far, here)
        return
    read_reference(run, far, here, trusted=False)  # headers are known to be wrong
    save(far, label, spacing=(-1.0, 1.0, 2.0))
    with pytest.raises(DataError, match="axes run to"):
        read_reference(run, far, here, trusted=False)


def test_a_reference_with_unknown_values_is_refused(run, tmp_path):
    here = read_volume(run.workdir / "images" / "a.nii.gz")
    save(tmp_path / "odd.nii.gz", seg(0, (0, 1, 3)))
    with pytest.raises(DataError, match=r"odd.nii.gz: .* 3 \(it has 0, 1, 4\)") as caught:
        read_reference(run, tmp_path / "odd.nii.gz", here)
    assert "\n" not in str(caught.value)


def test_label_maps_as_scans_with_unknown_values_are_refused(run, tmp_path):
    save(tmp_path / "odd.nii.gz", seg(0, (0, 1, 3)))
    (case,) = find_cases(tmp_path / "odd.nii.gz", 1)
    with pytest.raises(DataError, match="label values that are no class"):
        read_scan(run, case, of_labels=True)


def test_missing_references_are_told(run, tmp_path, monkeypatch):
    monkeypatch.setattr(TrainedRun, "variables", lambda *_: ({}, 1))
    monkeypatch.setattr(prediction, "open_run", lambda _: run)
    images, labels = run.workdir / "images", run.workdir / "labels"
    (labels / "b.nii.gz").unlink()
    console = Console(record=True, file=io.StringIO(), width=300)
    given = {"reference": labels, "console": console}
    assert list(prediction.predict_files(tmp_path, images, tmp_path / "o", **given)) == ["a"]
    assert f"1 of 2 scans have no reference in {labels}" in console.export_text()
    cases = find_cases(images, 1)
    for given, message in (
        (images.parent, "has no label of the 2 scans"),
        (tmp_path / "absent", "no such file or folder; check --reference"),
        (labels / "a.nii.gz", "is one file for 2 scans"),
    ):
        with pytest.raises(DataError, match=message):
            find_references(given, cases)
    assert find_references(labels / "a.nii.gz", cases[:1]) == {"a": labels / "a.nii.gz"}
