"""Runs that judge standardised sets are shown images as they were read."""

import dataclasses

import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.normalization import normalize
from jaxmedgen.data.phantoms.brain import BrainCohort
from jaxmedgen.data.preprocess import Preprocessing
from jaxmedgen.data.sources import ArraySource, subset
from jaxmedgen.experiments.runs import TrainedRun
from jaxmedgen.experiments.synthetic import extractors, own_scale
from jaxmedgen.experiments.synthetic.image_sets import ceilings, image_set, standardized
from jaxmedgen.experiments.synthetic.realism_run import evaluate_realism
from jaxmedgen.nets.feature_extractor import random_extractor
from jaxmedgen.systems.base import build_system


class Run(TrainedRun):
    """Without weights: its predictor and its network are put in its place."""

    def variables(self, kind="last"):
        return {}, 0


def run_of(tmp_path, info, normalization):
    config = load_config("unet:cpu")
    with config.unlocked():
        config.data.folder = "/data"
    statistics = ((0.0, 100.0, 50.0, 20.0),) if normalization == "ct" else None
    prepared = Preprocessing(normalization=normalization, ct_statistics=statistics)
    return Run(tmp_path, config, info, prepared, build_system(config, info))


@pytest.fixture(scope="module")
def brains():
    """Slices of skull-stripped heads: air is 0, tissue bright."""
    cohort = BrainCohort(21, shape=(24, 24, 24), seed=0, skull=False)
    records = []
    for i in range(21):
        image, label = cohort[i]["image"][12], cohort[i]["label"][12]
        image = np.where(label[..., None] > 0, image - image.min() + 5, 0).astype(np.float32)
        records.append({"image": image, "label": label})
    return ArraySource(records, dataclasses.replace(cohort.info, spacing=(1.0, 1.0)))


@pytest.fixture
def judged(tmp_path, brains, monkeypatch):
    """Evaluates with a run of a normalisation; what segmenter and extractor were shown."""

    def evaluate(normalization, factor=30.0, air=0.0, standardize=True, **options):
        run = run_of(tmp_path, brains.info, normalization)
        monkeypatch.setattr(own_scale, "open_run", lambda _: run)
        shown = []

        def predict(_, image):
            shown.append(np.asarray(image))
            return np.zeros(image.shape[:-1], np.int32)

        monkeypatch.setattr(own_scale, "predictor", lambda *_: predict)
        real, held_out = subset(brains, range(7)), subset(brains, range(7, 14))
        # The same heads in other units.
        made = [{**brains[i], "image": factor * brains[i]["image"] + air} for i in range(14, 21)]
        made = ArraySource(made, subset(brains, range(14, 21)).info)
        report = evaluate_realism(
            real, made, tmp_path / "report", held_out=held_out, standardize=standardize,
            segmenter=str(tmp_path), **options,
        )  # fmt: skip
        return shown, report

    return evaluate


def test_a_segmenter_sees_tissue_as_in_training(judged, brains):
    shown, report = judged("zscore", extractor="random")
    assert len(shown) == 21
    for image, number in zip(shown[:14], range(7, 21)):
        trained = normalize(brains[number]["image"], "zscore")
        np.testing.assert_allclose(image, trained, atol=1e-3)
    tissue = np.asarray(brains[7]["label"]) > 0
    assert abs(shown[0][tissue].mean()) < 0.01 and shown[0][tissue].std() > 0.9
    assert not any("leaves voxels of 0" in text for text in report.warnings)


def test_an_extractor_sees_tissue_as_in_training(tmp_path, judged, brains, monkeypatch):
    seen = []

    def network(_):
        run, plain = run_of(tmp_path, brains.info, "zscore"), random_extractor(2, 1)
        return extractors._behind(plain, extractors.normalization_of(run))

    monkeypatch.setattr(extractors, "run_extractor", network)
    for factor, standardize in ((30.0, True), (1.0, False)):
        run = {"standardize": standardize, "extractor": str(tmp_path)}
        seen.append(judged("zscore", factor, **run)[1])
    for key in ("fid", "kid", "feature_distance"):  # units do not count
        one, other = (report.value("synthetic", key) for report in seen)
        assert one == pytest.approx(other, rel=1e-2, abs=1e-4)
    images = image_set(subset(brains, range(7)))
    kept = standardized(images, subset(brains, range(7)), keep=True)
    assert kept.seen is images.images and abs(float(kept.images[0].mean())) < 1e-5
    assert standardized(images, subset(brains, range(7)), keep=False).shown is None
    noise = ceilings(kept, 6.0)["noise"]
    assert noise.images.min() >= kept.images.min()
    assert noise.seen.std() > 0.8 * images.images.std()
    assert (kept.take([2]).seen == images.images[2]).all()


def test_units_that_a_run_does_not_know(judged):
    with pytest.raises(ValueError, match=r"--segmenter .*normalization ct.*different scales"):
        judged("ct", extractor="random")
    assert len(judged("ct", 1.0, extractor="random")[0]) == 21


def test_a_background_that_is_not_0_is_told(judged):
    _, report = judged("zscore", air=-40.0, extractor="random")
    (said,) = (text for text in report.warnings if "leaves voxels of 0" in text)
    assert "0% of the synthetic ones" in said and "--segmenter" in said
