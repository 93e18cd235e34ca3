"""Numbers of classes in files: what another folder's labels mean, and what predictions hold."""

import dataclasses
import json

import numpy as np
import pytest
from rich.console import Console

from jaxmedgen.configuration import load_config
from jaxmedgen.data.nifti import read_volume
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.data.untrusted import DataError
from jaxmedgen.experiments import prediction, run_evaluation
from jaxmedgen.experiments.label_values import file_values, known_values, labelled_folder
from jaxmedgen.experiments.runs import TrainedRun
from tests.experiments.grey_folders import PLAIN, SIZES, ByGrey, trained_on, write


@pytest.fixture
def named(tmp_path):
    """A run on a folder in which edema is 1 and tumour 2."""
    names = {"background": 0, "edema": 1, "tumour": 2}
    return trained_on(write(tmp_path / "named", {"edema": 1, "tumour": 2}, names))


@pytest.fixture
def numbered(tmp_path):
    """A run on a folder without names, in which edema is 1 and tumour 4."""
    return trained_on(write(tmp_path / "numbered", {"edema": 1, "tumour": 4}))


def scored(run, folder, workdir, monkeypatch):
    """Dice by class of ``bin/evaluate --data folder``."""
    monkeypatch.setattr(run_evaluation, "open_run", lambda _: run)
    monkeypatch.setattr(TrainedRun, "variables", lambda *_: ({}, 1))
    found = run_evaluation.evaluate_run(
        workdir, data=str(folder), kind="last", console=Console(quiet=True)
    )
    return found[0].scores


def test_classes_of_another_folder_are_matched_by_name(named, tmp_path, monkeypatch):
    names = {"background": 0, "Tumour": 1, "cyst": 2, "edema": 3}
    other = write(tmp_path / "other", {"edema": 3, "tumour": 1}, names)
    scores = scored(named, other, tmp_path / "work", monkeypatch)
    for name, size in SIZES.items():
        assert scores[name]["dice"] == 1
        assert scores[name]["reference_size"] == 2 * size  # voxels of 2 mm^3
    holds = write(tmp_path / "holds", {"edema": 3, "tumour": 2}, names)
    with pytest.raises(DataError, match=r"no class of the run: 2 \(cyst\)") as caught:
        labelled_folder(named, str(holds), PLAIN)
    assert "\n" not in str(caught.value) and "edema, tumour" in str(caught.value)


def test_labels_without_names_have_the_numbers_of_the_training_files(numbered, tmp_path):
    assert numbered.info.class_names == ("background", "label 1", "label 4")
    other = write(tmp_path / "other", {"edema": 1, "tumour": 3})
    with pytest.raises(DataError, match=r"a.nii.gz: .* no class of the run: 3 \(it has 0, 1, 4\)"):
        labelled_folder(numbered, str(other), PLAIN)
    named = write(tmp_path / "n", {"edema": 1, "tumour": 4}, {"background": 0, "x": 1, "y": 4})
    assert labelled_folder(numbered, str(named), PLAIN).label_map == numbered.label_map


def test_a_folder_may_lack_a_class(named, numbered, tmp_path, monkeypatch):
    rare = write(tmp_path / "rare", {"tumour": 4}, present=("tumour",))
    source = labelled_folder(numbered, str(rare), PLAIN)
    assert source.info.class_names == numbered.info.class_names
    assert np.bincount(source[0]["label"].ravel()).tolist()[1:] == [0, SIZES["tumour"]]
    own = {"background": 0, "tumour": 1}
    rare = write(tmp_path / "own", {"tumour": 1}, own, present=("tumour",))
    scores = scored(named, rare, tmp_path / "work", monkeypatch)
    assert scores["tumour"]["dice"] == 1 and scores["edema"]["dice"] == 0


def test_a_map_of_the_user_makes_others_background(numbered, tmp_path):
    """As in training: it need not list all structures of an atlas."""
    given = tmp_path / "map.json"
    given.write_text('{"1": 1, "4": 2}')
    run = trained_on(numbered.workdir, label_map=str(given))
    given.unlink()  # the run has its own copy
    other = write(tmp_path / "other", {"edema": 1, "tumour": 3})
    source = labelled_folder(run, str(other), PLAIN)
    assert np.unique(source[0]["label"]).tolist() == [0, 1]
    assert known_values(run) is None and list(known_values(numbered)) == [0, 1, 4]


def test_merged_classes_are_matched_by_the_names_of_the_training_folder(named, tmp_path):
    names = {"background": 0, "tumour": 1, "edema": 2}
    other = write(tmp_path / "other", {"edema": 2, "tumour": 1}, names)
    merged = {"target_of": "(0, 0, 1)", "target_names": "('background', 'tumour')"}
    run = trained_on(named.workdir, **merged)
    info = dataclasses.replace(run.info, class_names=("background", "tumour"))
    run = dataclasses.replace(run, info=info)
    source = run_evaluation._evaluation_source(run, str(other))
    assert np.bincount(source[0]["label"].ravel())[1:].tolist() == [SIZES["tumour"]]
    assert source.info.class_names == info.class_names
    np.testing.assert_array_equal(file_values(run), [0, 1])  # numbers of merged classes


def test_masks_for_a_run_without_files(tmp_path):
    """One structure has one number, whichever; of several the numbers are the classes'."""
    mask = write(tmp_path / "mask", {"edema": 255}, present=("edema",))
    info = DatasetInfo(("background", "disc"), ("grey",), (1.0, 1.0, 2.0), ())
    config = load_config("unet:cpu")
    run = TrainedRun(tmp_path, config, info, PLAIN, ByGrey())
    assert labelled_folder(run, str(mask), PLAIN).label_map == {0: 0, 255: 1}
    several = dataclasses.replace(info, class_names=("background", "disc", "box"))
    with pytest.raises(DataError, match=r"255 \(it has 0, 1, 2\)"):
        labelled_folder(dataclasses.replace(run, info=several), str(mask), PLAIN)


@pytest.mark.parametrize("values", [(1, 4), (7, 300)])
def test_predictions_have_the_numbers_of_the_training_files(values, tmp_path, monkeypatch):
    """And are scored, and read again by ``bin/evaluate``, as what they are."""
    numbers = dict(zip(("edema", "tumour"), values))
    folder = write(tmp_path / "trained", numbers)
    run = trained_on(folder)
    np.testing.assert_array_equal(file_values(run), [0, *values])
    monkeypatch.setattr(TrainedRun, "variables", lambda *_: ({}, 1))
    monkeypatch.setattr(prediction, "open_run", lambda _: run)
    console = Console(quiet=True)
    given = {"reference": folder / "labels", "console": console}
    scores = prediction.predict_files(folder, folder / "images", tmp_path / "labels", **given)
    assert {s["dice"] for case in scores.values() for s in case.values()} == {1.0}
    written = read_volume(tmp_path / "labels" / "a.nii.gz", label=True).array
    np.testing.assert_array_equal(written, read_volume(folder / "labels/a.nii.gz").array)
    names = json.loads((tmp_path / "labels" / "labels.json").read_text())
    assert names == {"0": "background"} | {str(v): f"label {v}" for v in values}
    (folder / "images").rename(tmp_path / "images")
    again = scored(run, tmp_path, tmp_path / "work", monkeypatch)
    assert {s["dice"] for s in again.values()} == {1.0}


def test_the_lowest_of_several_values_is_written(numbered):
    table = {24: 0, 41: 1, 2: 1, 3: 2}
    run = dataclasses.replace(numbered, label_map=table)
    np.testing.assert_array_equal(file_values(run), [0, 2, 3])
    np.testing.assert_array_equal(run.remap(file_values(run)), [0, 1, 2])


def test_a_subject_that_trained_is_not_tested_after_the_folder_has_changed(tmp_path, monkeypatch):
    folder = write(tmp_path / "own", {"edema": 1, "tumour": 2})
    run = trained_on(folder, test="1", validation="0", train="0")
    monkeypatch.setattr(run_evaluation, "open_run", lambda _: changed)
    monkeypatch.setattr(TrainedRun, "variables", lambda *_: ({}, 1))
    where = {"data": None, "kind": "last", "console": Console(quiet=True)}
    changed = dataclasses.replace(run, patients=("c",))
    assert len(run_evaluation.evaluate_run(tmp_path / "work", **where)) == 1
    changed = dataclasses.replace(run, patients=("a", "b", "c"))
    with pytest.raises(ValueError, match=r"own has changed since the training: [ab] trained and"):
        run_evaluation.evaluate_run(tmp_path / "work", **where)


def test_scans_with_other_channels_are_refused_in_a_line(numbered, tmp_path, monkeypatch):
    two = dataclasses.replace(numbered.info, channel_names=("t1", "t2"))
    run = dataclasses.replace(numbered, info=two)
    with pytest.raises(ValueError, match=r"has 1 channels, the run was trained on 2 \(t1, t2\)"):
        scored(run, numbered.config.data.folder, tmp_path / "work", monkeypatch)
