"""Who trains, validates and tests of a user's scans, and whom the preprocessing is fitted to."""

import json
import logging

import numpy as np
import pytest

from jaxmedgen import configuration
from jaxmedgen.cli.main import main
from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.folder_parts import preprocessing
from jaxmedgen.data.folders import FolderSource
from jaxmedgen.data.preprocess import Preprocessing
from jaxmedgen.data.untrusted import DataError
from jaxmedgen.experiments.data_description import fitted_preprocessing
from tests.data.making_folders import SHAPE, make_nnunet, make_pairs, save, scan, seg

NAMES = tuple(f"s{number}" for number in range(6))


def configured(folder, **more):
    """Tiny scans as they are; two patients test, one validates."""
    settings = {
        "kind": "folder",
        "folder": str(folder),
        "shape": "()",
        "spacing": "native",
        "crop_to_nonzero": "False",
        "train": "0",
        "validation": "1",
        "test": "2",
    } | more
    return load_config("unet:cpu", {f"data.{key}": value for key, value in settings.items()})


def write(folder, bright=(), large=(), names=NAMES):
    for number, name in enumerate(names):
        spacing = (2.0, 2.0, 4.0) if name in large else (1.0, 1.0, 2.0)
        save(folder / f"images/{name}.nii.gz", scan(number) + 400 * (name in bright), spacing)
        save(folder / f"labels/{name}.nii.gz", seg(number), spacing)
    return folder


@pytest.mark.parametrize("spacing", ["median", "fit"])
def test_held_out_patients_do_not_shape_the_preprocessing(tmp_path, caplog, spacing):
    shape = {"shape": "(8, 9, 12)"} if spacing == "fit" else {}
    config = configured(tmp_path, spacing=spacing, normalization="ct", test="3", **shape)
    write(tmp_path)
    sources = build_sources(config.data)
    first = fitted_preprocessing(config, sources.train)
    held = (*sources.validation.info.case_names, *sources.test.info.case_names)
    assert len(held) == 4 and not caplog.text
    write(tmp_path, bright=held, large=held)
    again = build_sources(config.data)
    told = "4 held-out cases are larger than all training cases and are cropped to data.shape"
    assert (told in caplog.text) == (spacing == "fit")
    assert fitted_preprocessing(config, again.train) == first
    for part in (again.train, again.validation, again.test):
        assert part.info.spacing == first.spacing and part.source is again.train.source
    write(tmp_path, bright=sources.train.info.case_names)
    other = build_sources(config.data)
    assert fitted_preprocessing(config, other.train).ct_statistics != first.ct_statistics


def test_findings_are_fitted_to_those_that_train(tmp_path):
    config = load_config(
        "genseg:cpu,data=findings",
        {
            "data.folder": str(tmp_path),
            "data.presence_of": "^s[0-9]_(presence|absence)",
            "data.shape": str(SHAPE),
            "data.spacing": "native",
            "data.normalization": "ct",
            "data.validation": "1",
            "data.test": "1",
        },
    )
    names = tuple(f"s{n}_{kind}" for n in range(5) for kind in ("presence", "absence"))

    def statistics(bright=()):
        for number, name in enumerate(names):
            save(tmp_path / f"images/{name}.nii.gz", scan(number) + 400 * (name in bright))
            if name.endswith("presence"):
                save(tmp_path / f"labels/{name}.nii.gz", seg(number, (0, 1)))
        sources = build_sources(config.data)
        held = (*sources.validation.info.case_names, *sources.test.info.case_names)
        return fitted_preprocessing(config, sources.train).ct_statistics, held

    first, held = statistics()
    assert len(held) == 2
    assert statistics(held)[0] == first
    assert statistics(set(names) - set(held))[0] != first


def test_what_is_fitted_already_is_not_read_twice(tmp_path):
    source = FolderSource(make_pairs(tmp_path), Preprocessing(spacing="native"))
    kept = source[0]["image"]
    assert source.fitted_to([1])[0]["image"] is kept


@pytest.mark.parametrize("normalization", ["zscore", "ct"])
def test_healthy_subjects_are_kept_where_the_setting_says_so(tmp_path, normalization):
    write(tmp_path)
    for number in range(5):  # in all parts
        save(tmp_path / f"labels/s{number}.nii.gz", np.zeros(SHAPE, np.int32))
    settings = {"normalization": normalization, "train": "0"}
    with pytest.raises(DataError, match=r"5 problems.*\n.*or set --config.data.empty_labels=True"):
        build_sources(configured(tmp_path, **settings).data)
    settings["split_file"] = folds(tmp_path, (["s0", "s1", "s5"], ["s2"]))
    sources = build_sources(configured(tmp_path, empty_labels="True", **settings).data)
    for part in (sources.train, sources.validation, sources.test):
        assert not part[0]["label"].any() and part[0]["image"].any()
    assert sources.train[2]["label"].any() and sources.info.num_classes == 3
    older = configured(tmp_path, **settings).unlock()
    del older.data.empty_labels  # a setting that there is not is not offered
    with pytest.raises(DataError, match=r"holds only background; leave it out$") as caught:
        build_sources(older.data)
    assert "empty_labels" not in str(caught.value)


def test_healthy_test_subjects_of_nnunet_are_kept_likewise(tmp_path):
    folder = make_nnunet(tmp_path / "data", channels=1)
    save(folder / "imagesTs/t_0000.nii.gz", scan(7))
    save(folder / "labelsTs/t.nii.gz", np.zeros(SHAPE, np.int32))
    path = folds(tmp_path, (["a", "b"], ["c"]))
    with pytest.raises(DataError, match=r"t\.nii\.gz: holds only background"):
        build_sources(configured(folder, split_file=path).data)
    sources = build_sources(configured(folder, split_file=path, empty_labels="True").data)
    assert sources.test.info.case_names == ("t",) and not sources.test[0]["label"].any()


@pytest.mark.parametrize("spacing", ["median", "fit"])
def test_given_preprocessing_is_taken_and_not_fitted(tmp_path, spacing, caplog):
    """A stored run's: it may have been fitted to all cases, and all its scans are prepared so."""
    shape = {"shape": "(8, 9, 12)"} if spacing == "fit" else {}
    config = configured(tmp_path, spacing=spacing, normalization="ct", **shape)
    names = build_sources(configured(write(tmp_path)).data).train.info.case_names
    write(tmp_path, bright=set(NAMES) - set(names), large=set(NAMES) - set(names))
    stored = FolderSource(tmp_path, preprocessing(config.data)).preprocessing  # of all cases
    fitted = build_sources(config.data).train.source.preprocessing
    assert fitted.ct_statistics != stored.ct_statistics
    caplog.clear()
    sources = build_sources(config.data, Preprocessing.from_json(stored.to_json()))
    for part in (sources.train, sources.validation, sources.test):
        assert part.source.preprocessing == stored and part.info.spacing == stored.spacing
    assert fitted_preprocessing(config, sources.train) == stored and not caplog.text
    with pytest.raises(ValueError, match=r"still to be fitted: give those .* in dataset.json"):
        build_sources(config.data, preprocessing(config.data))


def folds(folder, *splits, name="splits_final.json"):
    path = folder / name
    path.write_text(json.dumps([{"train": train, "val": val} for train, val in splits]))
    return str(path)


def parts(config):
    sources = build_sources(config.data)
    return [list(p.info.case_names) for p in (sources.train, sources.validation, sources.test)]


def test_a_fold_trains_and_validates_and_other_patients_test(tmp_path):
    write(tmp_path / "data", names=(*NAMES, "s0_m12", "s5_m12"))
    path = folds(tmp_path, (["s1", "s2"], ["s3"]), (["s3", "s0", "s2"], ["s1"]))
    found = parts(configured(tmp_path / "data", split_file=path))
    assert found == [["s1", "s2"], ["s3"], ["s0", "s0_m12", "s4", "s5", "s5_m12"]]
    found = parts(configured(tmp_path / "data", split_file=str(tmp_path), fold="1"))
    assert found == [["s3", "s0", "s2"], ["s1"], ["s4", "s5", "s5_m12"]]
    found = parts(configured(tmp_path / "data", split_file=path, fold="1", train="1"))
    assert len(found[0]) == 1 and found[1] == ["s1"]


def test_validation_cases_test_where_none_are_left_and_that_is_told(tmp_path, caplog):
    write(tmp_path / "data")
    for empty in ("imagesTs", "labelsTs"):
        (tmp_path / "data" / empty).mkdir()
    path = folds(tmp_path, (list(NAMES[:4]), list(NAMES[4:])))
    with caplog.at_level(logging.WARNING):
        found = parts(configured(tmp_path / "data", split_file=path))
    assert found == [list(NAMES[:4]), ["s4", "s5"], ["s4", "s5"]]
    assert "fold 0 leaves no case for the test, so its 2 validation cases are also" in caplog.text


@pytest.mark.parametrize("described", [True, False])
def test_labelled_test_images_of_nnunet_are_the_test_set(tmp_path, described, caplog):
    folder = make_nnunet(tmp_path / "data", cases=("a", "b", "c"), channels=1)
    if not described:
        (folder / "dataset.json").unlink()
    for number, name in enumerate(("t", "u", "v")):
        save(folder / f"imagesTs/{name}_0000.nii.gz", scan(number), (1.0, 1.0, 4.0))
    for number, name in enumerate(("t", "v")):
        save(folder / f"labelsTs/{name}.nii.gz", seg(number, (0, 2)), (1.0, 1.0, 4.0))
    path = folds(tmp_path, (["a", "b"], ["c"]))
    config = configured(folder, split_file=path, spacing="median")
    sources = build_sources(config.data)
    assert sources.test.info.case_names == ("t", "v") and not caplog.text
    assert sources.test.info.class_names == sources.train.info.class_names
    assert sources.test.info.spacing == sources.train.info.spacing == (1.0, 1.0, 2.0)
    assert set(np.unique(sources.test[1]["label"])) == {0, 2}
    assert sources.test[0]["label"].shape == (8, 9, 12)
    save(folder / "imagesTr/a2_0000.nii.gz", scan(0))
    save(folder / "labelsTr/a2.nii.gz", seg(0))
    save(folder / "imagesTs/a2_m12_0000.nii.gz", scan(0))
    save(folder / "labelsTs/a2_m12.nii.gz", seg(0))
    path = folds(tmp_path, (["a2", "b"], ["c"]))
    with pytest.raises(DataError, match=r"1 patients are in training and test \(a2\)"):
        parts(configured(folder, split_file=path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split_file": "/none/splits_final.json"}, "/none/splits_final.json: No such file"),
        ({"fold": "2"}, r"data.fold=2: .*splits_final.json has 2 folds, counted from 0"),
        ({"fold": "-1"}, "data.fold=-1: "),
        ({"fold": "1"}, "fold 1 has 1 training and 0 validation cases; both are needed"),
        ({"train": "5"}, "5 patients asked for, 2 there"),
        ({"kind": "brain"}, "data.split_file is not read of data.kind='brain'"),
    ],
)
def test_folds_that_cannot_be_used_are_told_in_a_line(tmp_path, change, message):
    write(tmp_path)
    path = folds(tmp_path, (["s1", "s2"], ["s3"]), (["s1"], []))
    with pytest.raises(ValueError, match=message) as caught:
        parts(configured(tmp_path, **({"split_file": path} | change)))
    assert "\n" not in str(caught.value)


def test_a_name_that_the_folder_lacks_is_told(tmp_path, capsys):
    """Through the command line: one line, no traceback."""
    write(tmp_path / "data")
    path = folds(tmp_path, (["s1", "gone"], ["s3"]))
    arguments = ["ablate", "--data", str(tmp_path / "data"), "--workdir", str(tmp_path / "work")]
    arguments += [f"--config.data.split_file={path}", "--config.data.spacing=native"]
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert "fold 0 names missing cases ['gone']; add or drop them" in error
    assert error.count("\n") == 0


def test_configurations_of_before_split_as_before(tmp_path):
    write(tmp_path)
    config = configured(tmp_path)
    old = configuration.from_json(configuration.to_json(config)).unlock()
    del old.data.split_file, old.data.fold
    assert parts(old) == parts(config) and [len(part) for part in parts(old)] == [3, 1, 2]
    assert configuration.changes_since(old, config) == []
