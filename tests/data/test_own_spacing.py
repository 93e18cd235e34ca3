"""Subjects of native spacing have their own: in their records, in millimetres, not in batches."""

import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.folders import FolderSource
from jaxmedgen.data.hemispheres import HemisphereSettings, hemispheres
from jaxmedgen.data.image_slices import ImageSlices
from jaxmedgen.data.patches import random_patch
from jaxmedgen.data.pipeline import training_stream
from jaxmedgen.data.preprocess import Preprocessing
from jaxmedgen.data.sources import ArraySource, DatasetInfo, in_memory, relabel
from jaxmedgen.data.stacks import read_stack
from jaxmedgen.experiments.evaluation import Predictor, evaluate_source
from tests.data.making_folders import SHAPE, save, scan

SPACINGS = [(1.0, 1.0, 2.0), (1.0, 1.0, 3.0), (9.0, 1.0, 1.0)]


@pytest.fixture
def folder(tmp_path):
    """Three subjects of one shape and one label map, and of different voxel sizes."""
    label = np.zeros(SHAPE, np.int32)
    label[2:5, 2:5, 2:4] = 1
    for number, spacing in enumerate(SPACINGS):
        save(tmp_path / f"images/s{number}.nii.gz", scan(number), spacing)
        save(tmp_path / f"labels/s{number}.nii.gz", label, spacing)
    return tmp_path


class Moved(Predictor):
    """Predicts one label map."""

    def __init__(self, label):
        self.label = label

    def __call__(self, variables, image, stop=None):
        return self.label


def settings(folder, **more):
    return {
        "data.kind": "folder",
        "data.folder": str(folder),
        "data.shape": "()",
        "data.spacing": "native",
        "data.crop_to_nonzero": "False",
        "data.train": "0",
        "data.validation": "0",
        "data.test": "2",
    } | {f"data.{key}": value for key, value in more.items()}


@pytest.mark.parametrize("cache", [False, True])
def test_records_have_their_own_spacing_where_it_is_native(folder, tmp_path, cache):
    kept = tmp_path / "cache" if cache else None
    source = FolderSource(folder, Preprocessing(spacing="native"), cache_folder=kept)
    assert source.info.spacing == (1.0, 1.0, 2.0)
    for number, spacing in enumerate(SPACINGS):
        assert source[number]["spacing"].dtype == np.float32
        np.testing.assert_allclose(source[number]["spacing"], spacing)
    resampled = FolderSource(folder, Preprocessing(spacing=(1.0, 1.0, 1.0)), cache_folder=kept)
    assert "spacing" not in resampled[0]


def test_millimetres_are_the_cases_own(folder):
    source = relabel(
        in_memory(FolderSource(folder, Preprocessing(spacing="native"))), (0, 1), ("none", "box")
    )
    moved = Moved(np.roll(source[0]["label"], 1, axis=2))
    results = list(evaluate_source(moved, {}, source))
    assert [r.scores["box"]["hd"] for r in results] == pytest.approx([2.0, 3.0, 1.0])
    volume = [r.scores["box"]["reference_size"] for r in results]
    assert volume == pytest.approx([18 * np.prod(s) for s in SPACINGS])


def test_slices_are_cut_across_the_cases_own_thick_axis(folder):
    source = FolderSource(folder, Preprocessing(spacing="native"))
    assert read_stack(source, 2).label.shape == (3, 9, 6)
    assert read_stack(source, 2).spacing == (9.0, 1.0, 1.0)
    assert read_stack(source, 1).spacing == (3.0, 1.0, 1.0)
    slices = ImageSlices(source)
    assert len(slices) == 6 + 6 + 8
    assert slices[0]["label"].shape == (8, 9) and slices[19]["label"].shape == (9, 6)
    np.testing.assert_allclose(slices[19]["spacing"], [1.0, 1.0])


@pytest.mark.parametrize("patch", [None, (4, 4, 2)])
def test_batches_have_no_spacing(folder, patch):
    train = build_sources(load_config("unet:cpu", settings(folder, test="1")).data).train
    assert "spacing" in train[0]
    stream = training_stream(train, batch_size=2, seed=0, patch_size=patch, num_threads=0)
    assert sorted(next(stream)) == ["case", "image", "index", "label"]
    made = random_patch(train[0], (4, 4, 2), np.random.default_rng(0))
    assert sorted(made) == ["image", "label"]


def test_hemispheres_have_the_spacing_of_their_rows_and_columns():
    image = np.zeros((8, 6, 2, 1), np.float32)
    image[1:-1, 1:-1] = np.random.default_rng(0).normal(5, 1, (6, 4, 2, 1))
    label = np.zeros((8, 6, 2), np.int32)
    label[1:3, 2:4] = 1
    record = {"image": image, "label": label, "spacing": np.float32([1, 2, 5])}
    info = DatasetInfo(("background", "lesion"), ("a",), (1.0, 1.0, 1.0), ("s1",))
    found = hemispheres(ArraySource([record], info), HemisphereSettings())
    np.testing.assert_allclose(found.present[0]["spacing"], [2, 1])
