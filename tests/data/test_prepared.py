"""TFDS data sets in training: preprocessed as the settings say and as the run records."""

import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.prepared import Prepared, fitted
from jaxmedgen.data.preprocess import Preprocessing
from jaxmedgen.data.sources import ArraySource, DatasetInfo
from jaxmedgen.data.tfds_source import TfdsSource, write_tfds
from jaxmedgen.data.untrusted import DataError
from jaxmedgen.experiments.data_description import (
    describe_data,
    fitted_preprocessing,
    read_description,
)

NAMES = tuple(f"c{number}" for number in range(6))


def made(spacings=None, scale=()):
    rng = np.random.default_rng(0)
    records = []
    for number, name in enumerate(NAMES):
        image = rng.uniform(50, 255, (20, 24, 1)).astype(np.float32)
        label = rng.integers(0, 2, (20, 24)).astype(np.int32)
        record = {"image": image * (3 if name in scale else 1), "label": label}
        if spacings is not None:
            record["spacing"] = np.asarray(spacings[number], np.float32)
        records.append(record)
    return ArraySource(records, DatasetInfo(("background", "a"), ("x",), (1.0, 2.0), NAMES))


def configured(folder, **more):
    settings = {
        "kind": "tfds",
        "folder": str(folder),
        "shape": "(16, 16)",
        "spacing": "fit",
        "train": "0",
        "validation": "1",
        "test": "2",
    } | more
    return load_config("unet:cpu", {f"data.{key}": value for key, value in settings.items()})


def test_the_net_trains_on_what_the_run_records(tmp_path):
    raw = made()
    config = configured(write_tfds(raw, tmp_path, "toy"))
    sources = build_sources(config.data)
    assert [len(p) for p in (sources.train, sources.validation, sources.test)] == [3, 1, 2]
    describe_data(tmp_path, sources.info, config, sources.train)
    recorded = read_description(tmp_path / "dataset.json").preprocessing
    assert recorded.shape == (16, 16) and recorded.spacing == (3.0, 3.0) == sources.info.spacing
    assert recorded.normalization == "zscore" and recorded.crop_to_nonzero
    for part in (sources.train, sources.validation, sources.test):
        for number, name in enumerate(part.info.case_names):
            record = raw[NAMES.index(name)]
            expected, _ = recorded.apply((1.0, 2.0), record["image"], record["label"])
            np.testing.assert_array_equal(part[number]["image"], expected["image"])
            np.testing.assert_array_equal(part[number]["label"], expected["label"])
            assert part[number]["image"].shape == (16, 16, 1)


def test_statistics_are_those_of_the_patients_that_train(tmp_path):
    config = configured(write_tfds(made(), tmp_path, "a"), normalization="ct")
    sources = build_sources(config.data)
    found = fitted_preprocessing(config, sources.train)
    held = (*sources.validation.info.case_names, *sources.test.info.case_names)
    other = configured(write_tfds(made(scale=held), tmp_path, "b"), normalization="ct")
    again = fitted_preprocessing(other, build_sources(other.data).train)
    assert again == found
    train = sources.train.info.case_names
    other = configured(write_tfds(made(scale=train), tmp_path, "c"), normalization="ct")
    again = fitted_preprocessing(other, build_sources(other.data).train)
    np.testing.assert_allclose(again.ct_statistics, 3 * np.asarray(found.ct_statistics), rtol=1e-4)


def test_given_settings_are_taken_and_not_fitted(tmp_path):
    config = configured(write_tfds(made(), tmp_path, "a"), normalization="ct")
    stored = Preprocessing((4.0, 4.0), (16, 16), True, "ct", ((60.0, 200.0, 150.0, 40.0),))
    sources = build_sources(config.data, prepared=stored)
    assert fitted_preprocessing(config, sources.train) == stored
    assert sources.info.spacing == (4.0, 4.0)
    phantoms = load_config("unet:cpu", {"data.kind": "shapes", "data.shape": "(16, 16)"})
    given = build_sources(phantoms.data, Preprocessing())  # says nothing of phantoms
    np.testing.assert_array_equal(
        given.test[0]["image"], build_sources(phantoms.data).test[0]["image"]
    )


def test_spacings_of_subjects_are_kept_and_used(tmp_path):
    spacings = [(1.0, float(number)) for number in range(1, 7)]
    source = TfdsSource(write_tfds(made(spacings), tmp_path, "toy"))
    np.testing.assert_allclose([source[i]["spacing"] for i in range(6)], spacings)
    native = Prepared(source, Preprocessing(spacing="native", normalization="none"))
    np.testing.assert_allclose(native[4]["spacing"], (1, 5))
    np.testing.assert_array_equal(native[4]["image"], source[4]["image"])
    settings = fitted(source, Preprocessing(), (0, 2, 4))
    assert settings.spacing == (1.0, 3.0)
    resampled = Prepared(source, settings)
    assert resampled.info.spacing == (1.0, 3.0)
    assert resampled[5]["label"].shape == (20, 48) and "spacing" not in resampled[5]


def test_settings_and_subjects_that_do_not_fit_are_told(tmp_path):
    raw = made()
    folder = write_tfds(raw, tmp_path, "toy")
    with pytest.raises(ValueError, match=r"data.shape=\(8, 8, 8\) has 3 axes, the .* have 2"):
        build_sources(configured(folder, shape="(8, 8, 8)").data)
    with pytest.raises(ValueError, match=r"data.spacing=\(2.0, 2.0, 2.0\) has 3 axes"):
        build_sources(configured(folder, spacing="2").data)
    raw.records[3]["image"][:] = 7
    with pytest.raises(DataError, match="c3: image channel 0 is constant"):
        build_sources(configured(write_tfds(raw, tmp_path, "flat")).data)
