"""Volumes through models of slices: a folder of brains, cut, shown, joined, and written back."""

import json
import shutil
from pathlib import Path

import jax
import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.preprocess import Preprocessing
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.experiments import prediction, run_evaluation, runs, volume_slices
from jaxmedgen.experiments.data_description import describe_data
from jaxmedgen.experiments.evaluation import Predictor
from jaxmedgen.experiments.translations import write_translated
from jaxmedgen.train.environment import write_json
from tests.train.toys import Regression

AFFINE = np.array([[0, 0, 2.0, 5], [-2, 0, 0, 40], [0, 2.0, 0, -7], [0, 0, 0, 1]])
"""File axes run to posterior, superior, right."""

SETTINGS = {
    "data.shape": "(12, 7)",
    "data.volume": "(13, 12, 4)",
    "data.train": "2",
    "data.validation": "0",
    "data.test": "1",
    "data.labelled": "1.0",
    "data.crop_to_nonzero": "False",
    "data.spacing": "native",
}


def brain(seed):
    """A box of brain in two channels of different scale with a bright lesion on one side."""
    rng = np.random.default_rng(seed)
    image, label = np.zeros((13, 12, 4, 2), np.float32), np.zeros((13, 12, 4), np.uint8)
    image[1:-1, 1:-1] = rng.uniform(20, 30, (11, 10, 4, 2)) * [1, 10]
    label[2:5, 3:7, 1:3] = 1
    image[label > 0, 0] = 100
    return image, label


class Threshold(Regression):
    """Finds what is bright in the first channel and makes it as dark as the scan's mean."""

    domain_names = ("absence", "presence")

    def predict(self, variables, image):
        found = jax.nn.one_hot((image[..., 0] > variables["net"]["limit"]).astype(int), 2)
        return found

    def translate(self, variables, keys, image, target):
        bright = image[..., :1] > variables["net"]["limit"]
        return jax.numpy.where(bright, 0.0, image)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run trained on a folder of three such brains, and the folder."""
    folder, work = tmp_path_factory.mktemp("brains"), tmp_path_factory.mktemp("work")
    for kind in ("imagesTr", "labelsTr"):
        (folder / kind).mkdir()
    turned = lambda x: x[:, ::-1].transpose(1, 2, 0)  # noqa: E731 - to the file's axes
    for number in range(3):
        image, label = brain(number)
        for k in range(2):
            path = folder / "imagesTr" / f"s{number}_{k:04d}.nii.gz"
            nib.save(nib.Nifti1Image(turned(image[..., k]), AFFINE), path)
        path = folder / "labelsTr" / f"s{number}.nii.gz"
        nib.save(nib.Nifti1Image(turned(label), AFFINE), path)
    description = {"channel_names": {"0": "a", "1": "b"}, "numTraining": 3}
    description |= {"labels": {"background": 0, "tumour": 1}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description))
    config = load_config("genseg:cpu,data=hemispheres", SETTINGS | {"data.folder": str(folder)})
    sources = build_sources(config.data)
    write_json(work / "config.json", config.to_dict())
    describe_data(work, sources.info, config, sources.train)
    return work, folder, sources


def opened(workdir, monkeypatch, limit):
    run = runs.open_run(workdir)
    object.__setattr__(run, "system", Threshold())
    monkeypatch.setattr(runs.TrainedRun, "variables", lambda *_: ({"net": {"limit": limit}}, 1))
    monkeypatch.setattr(prediction, "open_run", lambda _: run)
    return run


def test_a_run_keeps_the_names_of_its_patients(workdir):
    """Whose slices it saw, not the test patient's: others refuse to be tested on them."""
    work, _, sources = workdir
    (tested,) = {name[:2] for name in sources.test.info.case_names}
    assert set(runs.open_run(work).patients) == {"s0", "s1", "s2"} - {tested}


def test_channels_of_a_folder_are_scaled_jointly(workdir):
    """One mean and deviation for all of them: the tenfold channel stays the brighter one."""
    sources = workdir[2]
    shown = [sources.train[i] for i in range(len(sources.train))]
    first, second = (np.mean([r["image"][1:-1, 1:-1, k].mean() for r in shown]) for k in (0, 1))
    assert second - first > 0.3
    refused = load_config("genseg:cpu,data=hemispheres", SETTINGS | {"data.folder": "somewhere"})
    with refused.unlocked():
        refused.data.normalization = "zscore"
    with pytest.raises(ValueError, match=r"data\.normalization=zscore"):
        build_sources(refused.data)


def test_a_volume_is_segmented_by_its_hemispheres(workdir, tmp_path, monkeypatch):
    """Both sides of every slice, joined on the scan's grid, with its affine."""
    work, folder, _ = workdir
    image, label = brain(0)
    inside = image[1:-1, 1:-1]
    limit = (60 - inside.mean()) / (5 * inside.std())
    opened(work, monkeypatch, limit)
    arguments = {"reference": folder / "labelsTr", "console": Console(quiet=True)}
    scores = prediction.predict_files(work, folder / "imagesTr", tmp_path, **arguments)
    assert sorted(scores) == ["s0", "s1", "s2"]
    assert all(case["lesion"]["dice"] == 1 for case in scores.values())
    made = nib.load(tmp_path / "s0.nii.gz")
    np.testing.assert_allclose(made.affine, AFFINE)
    np.testing.assert_array_equal(made.get_fdata(), label[:, ::-1].transpose(1, 2, 0))


@pytest.mark.parametrize("own", [True, False])
def test_hemispheres_are_scored_by_the_global_soft_dice(workdir, tmp_path, monkeypatch, own):
    """Of the run's test slices, and of a folder's volumes."""
    work, folder, _ = workdir
    run = opened(work, monkeypatch, 0.2)
    monkeypatch.setattr(run_evaluation, "open_run", lambda _: run)
    data = None if own else str(folder)
    console = Console(quiet=True)
    results = run_evaluation.evaluate_run(tmp_path, data=data, kind="last", console=console)
    assert len(results) == (2 if own else 6)
    found = json.loads((tmp_path / "evaluation.json").read_text())["settings"]["global_soft_dice"]
    pairs = [(r.prediction == 1, r.label == 1) for r in results]
    overlap = sum((p & y).sum() for p, y in pairs)
    size = sum(p.sum() + y.sum() for p, y in pairs)
    assert found == pytest.approx((2 * overlap + 1) / (size + 1))


def test_the_finding_of_another_folder_is_the_structure_of_that_name(
    workdir, tmp_path, monkeypatch
):
    """Not its last class, as in a folder that says nothing."""
    work, folder, _ = workdir
    run = opened(work, monkeypatch, 0.2)
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    description = json.loads((other / "dataset.json").read_text())
    description["labels"] = {"background": 0, "tumour": 1, "cyst": 2}
    (other / "dataset.json").write_text(json.dumps(description))
    mine, theirs = (run_evaluation._evaluation_source(run, str(f)) for f in (folder, other))
    assert run.origin.label_map
    assert len(mine) == len(theirs) == 6
    for number in range(6):
        np.testing.assert_array_equal(mine[number]["label"], theirs[number]["label"])


def test_a_scan_is_translated_in_its_own_intensities(workdir, tmp_path, monkeypatch):
    work, folder, _ = workdir
    image, label = brain(0)
    inside = image[1:-1, 1:-1]
    opened(work, monkeypatch, (60 - inside.mean()) / (5 * inside.std()))
    source, console = folder / "imagesTr", Console(quiet=True)
    prediction.predict_files(work, source, tmp_path, target="absence", console=console)
    for k in range(2):
        made = nib.load(tmp_path / f"s0_{k:04d}.nii.gz")
        np.testing.assert_allclose(made.affine, AFFINE)
        array = made.get_fdata().transpose(2, 0, 1)[:, ::-1]
        np.testing.assert_allclose(array[label > 0], inside.mean(), rtol=1e-4)
        np.testing.assert_allclose(array[label == 0], image[label == 0, k], atol=0.01)
    with pytest.raises(ValueError, match="choose one of absence, presence"):
        prediction.predict_files(work, source, tmp_path, target="health", console=console)


def test_test_images_are_written_in_every_domain(workdir, tmp_path):
    """Images, the model's own labels, and the picture, both for a run's test subjects."""
    _, _, sources = workdir
    write_translated(sources, Threshold(), {"net": {"limit": 0.2}}, tmp_path, 2, 0)
    for domain in ("absence", "presence"):
        names = sorted(p.name for p in (tmp_path / domain / "images").iterdir())
        assert names == [f"sample_{n:05d}_{k:04d}.nii.gz" for n in range(2) for k in range(2)]
        label = nib.load(tmp_path / domain / "labels" / "sample_00001.nii.gz").get_fdata()
        assert label.shape == (12, 7) and not label.any()
    assert (tmp_path / "samples.png").is_file()


def test_slices_of_a_volume_for_a_model_of_images(tmp_path, monkeypatch):
    """Across the thickest axis; constant slices are background."""
    config = load_config(
        "genseg:cpu",
        {"data.train": "4", "data.test": "1", "data.validation": "1", "data.labelled_kind": "-1"},
    )
    sources = build_sources(config.data)
    write_json(tmp_path / "config.json", config.to_dict())
    describe_data(tmp_path, sources.info, config, sources.train)
    opened(tmp_path, monkeypatch, 1.5)
    image = np.zeros((10, 8, 6), np.float32)
    image[:, :, 2:4] = np.random.default_rng(0).uniform(0, 1, (10, 8, 2))
    image[2:5, 2:4, 2:4] = 9
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(image, np.diag([1.0, 1, 8, 1])), path)
    prediction.predict_files(tmp_path, path, tmp_path / "out", console=Console(quiet=True))
    found = nib.load(tmp_path / "out" / "scan.nii.gz").get_fdata()
    np.testing.assert_array_equal(found, (image == 9).astype(float))


def box_run(system, shape, **settings):
    """A run on whole volumes of 1 mm and this shape."""
    config = load_config("unet:cpu", {"data.shape": str(shape)})
    info = DatasetInfo(("background", "bright"), ("grey",), (1.0, 1.0, 1.0), ())
    prepared = Preprocessing(spacing=(1.0, 1.0, 1.0), shape=shape, **settings)
    return runs.TrainedRun(Path("work"), config, info, prepared, system)


class Watching(Predictor):
    """A predictor that keeps what its network sees."""

    def _run(self, variables, image, reduce, stop=None):
        inner = self._predict
        self._predict = lambda variables, patch: self._seen(inner, variables, patch)
        try:
            return super()._run(variables, image, reduce, stop)
        finally:
            self._predict = inner

    def _seen(self, inner, variables, patch):
        self.seen = np.asarray(patch[0])
        return inner(variables, patch)


@pytest.mark.parametrize("crop", [False, True])
def test_the_network_sees_the_margins_of_its_training(crop):
    """A head that the field of view cuts: beside it is air, not more of its neck."""
    head = np.random.default_rng(0).uniform(50, 100, (10, 12, 9, 1)).astype(np.float32)
    head[:, 9:] = 0
    run = box_run(Threshold(), (16, 16, 16), crop_to_nonzero=crop)
    watching = Watching(run.system, (16, 16, 16))
    variables = {"net": {"limit": 0.5}}
    label = volume_slices.segment(run, watching, variables, head, (1.0, 1.0, 1.0))
    trained, _ = run.preprocessing.apply((1.0, 1.0, 1.0), image=head)
    np.testing.assert_array_equal(watching.seen, trained["image"])
    normal = run.preprocessing.normalize(head)
    assert label.shape == head.shape[:-1]
    np.testing.assert_array_equal(label, normal[..., 0] > 0.5)


def test_a_larger_scan_is_seen_whole():
    """Cut along no axis, and padded along those where it is smaller than the training's shape."""
    scan = np.random.default_rng(1).uniform(0, 1, (20, 6, 8, 1)).astype(np.float32)
    run = box_run(Threshold(), (8, 8, 8))
    limit = {"net": {"limit": 1.0}}
    predict = Predictor(run.system, (8, 8, 8))
    label = volume_slices.segment(run, predict, limit, scan, (1.0, 1.0, 1.0))
    normal = run.preprocessing.normalize(scan)
    np.testing.assert_array_equal(label, normal[..., 0] > 1.0)
    assert label[0].any() and label[-1].any()


def test_translation_sees_the_margins_of_training_too():
    shapes = []

    class Shaped(Threshold):
        def translate(self, variables, keys, image, target):
            shapes.append(image.shape)
            return image + 1

    scan = np.random.default_rng(1).uniform(0, 1, (20, 6, 8, 1)).astype(np.float32)
    run = box_run(Shaped(), (8, 8, 8))
    made = volume_slices.translate(run, {}, scan, (1.0, 1.0, 1.0), "absence")
    assert shapes == [(1, 20, 8, 8, 1)]
    np.testing.assert_allclose(made, run.preprocessing.normalize(scan) + 1, atol=1e-5)
