"""A split file for hemispheres of a user's scans, from the command line's settings."""

import json

import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.hemispheres import patient_of_slice
from jaxmedgen.data.preprocess import Preprocessing
from tests.data.making_folders import save

NAMES = tuple(f"s{number}" for number in range(6))
SPACE = (8, 8, 4)


@pytest.fixture
def folder(tmp_path):
    """Brains of 8 x 8 x 4, `s0` healthy, the others with a lesion on one side."""
    for number, name in enumerate(NAMES):
        rng = np.random.default_rng(number)
        image, label = np.zeros(SPACE, np.float32), np.zeros(SPACE, np.int32)
        image[1:-1, 1:-1] = rng.normal(100, 10, (6, 6, 4))
        label[2:4, 2:4, 1:3] = name != "s0"
        save(tmp_path / f"images/{name}.nii.gz", image, (1.0, 1.0, 1.0))
        save(tmp_path / f"labels/{name}.nii.gz", label, (1.0, 1.0, 1.0))
    folds = [{"train": ["s0", "s1", "s2"], "val": ["s3"]}, {"train": ["s5", "s4"], "val": ["s1"]}]
    (tmp_path / "splits_final.json").write_text(json.dumps(folds))
    return tmp_path


def patients(folder, prepared=None, **more):
    settings = {
        "folder": str(folder),
        "split_file": str(folder),
        "volume": str(SPACE),
        "shape": "(8, 4)",
        "spacing": "native",
        "crop_to_nonzero": "False",
        "train": "0",
        "labelled": "1.0",
        "empty_labels": "True",
    } | more
    config = load_config(
        "genseg:cpu,data=hemispheres", {f"data.{key}": value for key, value in settings.items()}
    )
    sources = build_sources(config.data, prepared)
    parts = (sources.train, sources.validation, sources.test)
    names = [sorted({patient_of_slice(n) for n in part.info.case_names}) for part in parts]
    return names, sources


def test_folds_split_the_patients_of_hemispheres(folder):
    assert patients(folder)[0] == [["s1", "s2"], ["s3"], ["s4", "s5"]]  # s0 has no lesion
    assert patients(folder, fold="1")[0] == [["s4", "s5"], ["s1"], ["s2", "s3"]]


def test_healthy_subjects_of_hemispheres_need_the_setting(folder):
    with pytest.raises(ValueError, match=r"s0.nii.gz: holds only background; .*empty_labels=True"):
        patients(folder, empty_labels="False")
    with pytest.raises(ValueError, match="no labels/ beside images/"):
        (folder / "labels").rename(folder / "segmentations")
        patients(folder)


def test_given_preprocessing_is_that_of_the_volumes(folder):
    stored = Preprocessing((1.0, 1.0, 1.0), SPACE, False, "none")
    sources = patients(folder, stored, spacing="fit")[1]
    assert sources.train.source.origin.preprocessing == stored
