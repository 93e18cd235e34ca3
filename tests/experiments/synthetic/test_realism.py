"""Realism of sets: order of known faults, pairs, label fidelity, the folders' report, readers."""

import csv
import dataclasses
import json

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest

from jaxmedgen.data.phantoms.heart_slices import HeartSlices
from jaxmedgen.data.sources import ArraySource, in_memory, subset
from jaxmedgen.experiments.synthetic import extractors, realism_run
from jaxmedgen.experiments.synthetic.interpretation import Findings, readings
from jaxmedgen.experiments.synthetic.known_generators import Degraded, OracleGenerator
from jaxmedgen.experiments.synthetic.reader_sheets import describe, score_sheets, write_sheets
from jaxmedgen.experiments.synthetic.realism import (
    ImageSet,
    copying,
    label_fidelity,
    pair_measures,
    set_measures,
)
from jaxmedgen.experiments.synthetic.realism_run import evaluate_realism, halves
from jaxmedgen.experiments.synthetic.synthetic_set import Recipe, build_set
from jaxmedgen.nets.feature_extractor import Extractor, ResNet, save_resnet


def statistics(image):
    """Features without a network: moments and roughness."""
    axes = (1, 2, 3)
    edges = jnp.abs(jnp.diff(image, axis=1)).mean(axes)
    return jnp.stack([image.mean(axes), image.std(axes), 10 * edges, (image**3).mean(axes)], -1)


PLAIN = Extractor(
    name="moments",
    identifier="0",
    features=statistics,
    maps=lambda image: (jnp.concatenate([image, 1 - image], -1),),
    probs=None,
    trained=True,
)


def image_set(source):
    images = np.stack([r["image"] for r in source.records])
    labels = np.stack([r["label"] for r in source.records])
    return ImageSet(images, tuple(source.info.case_names), labels=labels)


@pytest.fixture(scope="module")
def hearts():
    return in_memory(HeartSlices(80, shape=(32, 32), seed=7))


def test_faults_are_farther_than_the_floor(hearts):
    whole = image_set(hearts)
    reference, floor = whole.take(range(40)), whole.take(range(40, 80))
    half = subset(hearts, range(40, 80))
    sets = {"floor": floor}
    for fault in ("sound", "blurred", "noisy", "collapsed"):
        maker = OracleGenerator()
        maker = maker if fault == "sound" else Degraded(maker, fault)
        made = build_set(half, maker, Recipe(style="A"), 40)
        sets[fault] = image_set(made.source)
    found = set_measures(reference, sets, PLAIN, resamples=8)
    value = {(m.images, m.metric): m for m in found}
    distance = {name: value[name, "fid"].value for name in sets}
    assert distance["sound"] < 3 * distance["floor"]
    assert all(distance[f] > 4 * distance["floor"] for f in ("blurred", "noisy"))
    assert value["collapsed", "recall"].value < 0.2 < value["sound", "recall"].value
    assert value["collapsed", "pairwise_ms_ssim"].value > value["sound", "pairwise_ms_ssim"].value
    fid = value["sound", "fid"]
    assert fid.low < fid.value < fid.high and fid.count == 40
    with pytest.raises(ValueError, match="need more"):
        set_measures(reference.take([0, 1]), sets, PLAIN)


def test_pairs_and_label_fidelity(hearts):
    whole = image_set(hearts).take(range(20))
    near = pair_measures(whole.images + 0.01, whole.images, whole.subjects, PLAIN)
    far = pair_measures(whole.images[::-1], whole.images, whole.subjects, PLAIN)
    one, other = ({m.metric: m for m in found} for found in (near, far))
    assert one["psnr"].value == pytest.approx(40, abs=0.01)
    assert one["mae"].value == pytest.approx(0.01, abs=1e-5)
    assert one["ssim"].value > other["ssim"].value
    assert one["lpips_uncalibrated"].value < other["lpips_uncalibrated"].value

    def perfect(images):
        return whole.labels

    assert label_fidelity(perfect, whole, 8).value == 1
    wrong = dataclasses.replace(whole, labels=np.roll(whole.labels, 1, 0))
    assert label_fidelity(perfect, wrong, 8).value < 0.9
    equal = {m.metric: m for m in pair_measures(whole.images, whole.images, whole.subjects, PLAIN)}
    assert equal["psnr"].value == np.inf and np.isnan(equal["psnr"].low)
    assert equal["ssim"].value == pytest.approx(1)


def test_labels_are_exchanged_between_subjects():
    """Neighbouring slices of one subject would be almost right."""
    subjects = ["a"] * 3 + ["b"] * 3 + ["c"] * 2
    others = realism_run._other_subjects(subjects)
    assert sorted(others) == list(range(8))
    assert all(subjects[i] != subjects[j] for i, j in enumerate(others))


def test_images_of_one_patient_are_one_subject():
    """Real slices and the synthetic images of them alike: four patients, three slices each."""
    names = tuple(f"sub-{p:02d}_z{z:02d}" for p in range(4) for z in range(3))
    source = in_memory(HeartSlices(12, shape=(32, 32), seed=7))
    source = ArraySource(source.records, dataclasses.replace(source.info, case_names=names))
    made = build_set(source, OracleGenerator(), Recipe(style="A"), 24)
    cases = {entry["name"]: entry["subject"] for entry in made.manifest["images"]}
    assert set(cases.values()) == set(names)
    real = realism_run.image_set(source)
    generated = realism_run.image_set(made.source, "", cases)
    assert set(real.subjects) == set(generated.subjects) == {f"sub-{p:02d}" for p in range(4)}
    assert all(cases[n][:6] == s for n, s in zip(made.source.info.case_names, generated.subjects))


@pytest.mark.parametrize("standardize", [True, False])
def test_networks_of_photographs_see_one_window(tmp_path, monkeypatch, standardize):
    """[0, 1] of all sets, whatever their units; the report tells which intensities these are."""
    seen = []

    def features(image):
        jax.debug.callback(lambda *ends: seen.append([float(e) for e in ends]),
                           image.min(), image.max())  # fmt: skip
        return statistics(image)

    spy = dataclasses.replace(PLAIN, name="spy", features=features)
    monkeypatch.setattr(extractors, "pretrained_extractor", lambda *_: spy)
    hearts = in_memory(HeartSlices(21, shape=(32, 32), seed=7))
    for record in hearts.records:
        record["image"] = 800 * record["image"] - 100
    real, held_out, made = (subset(hearts, range(k, k + 7)) for k in (0, 7, 14))
    report = evaluate_realism(
        real, made, tmp_path, held_out=held_out, extractor="vgg16:weights.npz",
        standardize=standardize, data_range=800,
    )  # fmt: skip
    jax.effects_barrier()
    lows, highs = np.array(seen).T
    assert lows.min() >= 0 and highs.max() <= 1
    assert lows.min() < 0.3 and highs.max() > 0.8 and len(seen) >= 5
    ends = (-3, 3)
    if not standardize:
        ends = np.percentile([r["image"] for r in hearts.records[:7]], (0.5, 99.5))
        assert lows.min() == 0 and highs.max() == 1
    assert report.settings["window"] == pytest.approx(ends)
    shown = f"{ends[0]:.3g} to {ends[1]:.3g}"
    assert report.extractor == f"spy, {shown} seen as 0 to 1"
    assert any(f"intensities of {shown} of all sets" in text for text in report.warnings)


def test_copies_are_found(hearts):
    whole = image_set(hearts)
    train, held_out = whole.take(range(40)), whole.take(range(40, 80))
    measures, found = copying(train, held_out, train, PLAIN)
    assert {m.metric: m.value for m in measures}["memorisation copied"] == 1
    assert (found.nearest == np.arange(40)).all()


def test_the_report_of_two_folders(hearts, tmp_path, monkeypatch):
    train, held_out = halves(hearts)
    assert not set(train.info.case_names) & set(held_out.info.case_names)
    made = build_set(train, OracleGenerator(), Recipe(style="own"), 40, groups=("A",) * len(train))
    net = ResNet(classes=2, features=(4, 8))
    variables = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))
    save_resnet(tmp_path / "net.npz", net, variables, "untrained")
    mapped = []

    def remap(label, class_names=()):
        mapped.append((class_names, label.shape[0]))
        return label

    segmenter = (lambda images: np.zeros(images.shape[:-1], np.int32), 8, remap)
    monkeypatch.setattr(realism_run, "segmenter_of", lambda _: segmenter)
    monkeypatch.setattr(realism_run, "check_own_scale", lambda *_, **__: [])
    report = evaluate_realism(
        train,
        made.source,
        tmp_path,
        held_out=held_out,
        segmenter="segmenter",
        extractor=str(tmp_path / "net.npz"),
        manifest=made.manifest,
    )
    names = hearts.info.class_names  # of the set made here, whose values are classes already
    assert mapped == [((), len(held_out)), (names, 40), (names, 40)]
    assert report.value("synthetic", "ssim") > 0.3  # aligned pairs: labels and styles were kept
    assert report.value("noise", "fid") > report.value("synthetic", "fid")
    stored = json.loads((tmp_path / "realism.json").read_text())
    assert tuple(stored["readings"]) == report.readings
    assert stored["extractor"]["hash"] == report.identifier
    assert stored["manifest"]["version"] == made.manifest["version"]
    assert any("FID is biased upward" in text for text in stored["warnings"])
    assert not any("--held-out" in text for text in stored["warnings"])
    assert "memorisation copied" in {m.metric for m in report.measures}
    page = (tmp_path / "realism.html").read_text()
    assert "Level 3" in page and 'src="http' not in page and report.identifier in page
    with (tmp_path / "realism.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["images"] for row in rows} == {
        "held-out real",
        "synthetic",
        "labels permuted",
        "blurred real",
        "noise",
    }
    assert {row["hash"] for row in rows} == {report.identifier}
    assert (tmp_path / "neighbours.png").exists()


@pytest.mark.parametrize("design", ["scale", "pairs"])
def test_reader_study_from_sheets_to_scores(tmp_path, design):
    rng = np.random.default_rng(0)
    real, fake = (rng.uniform(size=(12, 16, 16, 1)).astype(np.float32) for _ in range(2))
    write_sheets(real, fake, tmp_path, readers=3, design=design, count=10)
    key = json.loads((tmp_path / "key.json").read_text())
    with pytest.raises(ValueError, match="filled in"):
        score_sheets(tmp_path)
    for number, (name, sheet) in enumerate(key["readers"].items()):
        path = tmp_path / name / "answers.csv"
        rows = list(csv.reader(path.open()))
        assert len(rows) == 1 + (20 if design == "scale" else 10)
        assert len(list((tmp_path / name).glob("*.png"))) == len(rows) - 1
        if number == 2:  # the third reader never answers
            continue
        right = {"scale": ("5", "1"), "pairs": ("left", "right")}[design]
        for row, truth in zip(rows[1:], sheet["real"]):
            row[1] = right[0] if truth else right[1]
        if number == 1:
            rows[1][1] = right[1] if sheet["real"][0] else right[0]
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    if design == "pairs":  # the same pairs for all, half of them with the real one on the left
        sides = [dict(zip(sheet["items"], sheet["real"])) for sheet in key["readers"].values()]
        assert sides[0] == sides[1] == sides[2] and sum(sides[0].values()) == 5
    scores = score_sheets(tmp_path)
    assert list(scores["readers"]) == ["reader1", "reader2"]
    assert scores["readers"]["reader1"].accuracy.mean == 1
    count = 20 if design == "scale" else 10
    assert scores["readers"]["reader2"].accuracy.mean == pytest.approx(1 - 1 / count)
    assert "right" in describe(scores)[0]
    # One item of the two readers differs, each in its own order: kappa counts that one alone.
    assert scores["kappa"] == pytest.approx(1 - 2 / count, abs=0.01)
    assert key["readers"]["reader1"]["real"] != key["readers"]["reader2"]["real"]


def test_readers_cannot_tell_sets_by_their_greys(tmp_path):
    rng = np.random.default_rng(0)
    real, fake = (rng.uniform(size=(4, 96, 96, 1)).astype(np.float32) for _ in range(2))
    write_sheets(800 * real, 2 * fake - 1, tmp_path, readers=1)
    truth = json.loads((tmp_path / "key.json").read_text())["readers"]["reader1"]["real"]
    tiles = [matplotlib.image.imread(path) for path in sorted((tmp_path / "reader1").glob("*.png"))]
    for kind in (True, False):
        shown = np.stack([tile for tile, real in zip(tiles, truth) if real is kind])
        np.testing.assert_allclose(np.percentile(shown, (2, 50, 98)), (0.02, 0.5, 0.98), atol=0.03)


def test_patterns_are_read_as_the_table_says():
    harmful = Findings(fid_ratio=1.5, label_fidelity=0.4, real_fidelity=0.9)
    assert any("harmful" in r for r in readings(harmful))
    randomised = Findings(fid_ratio=9.0, gain_source=0.02, gain_unseen=0.1)
    assert [r for r in readings(randomised) if "domain randomisation" in r]
    narrow = Findings(gain_source=0.03, gain_unseen=0.0)
    assert any("variety of styles" in r for r in readings(narrow))
    repeated = Findings(gain_source=0.0, gain_unseen=0.0, gain_without_augmentation=0.05)
    assert any("repeat what augmentation" in r for r in readings(repeated))
    leak = Findings(retention_honest=0.9, retention_full=0.98)
    assert any("leaked" in r for r in readings(leak))
    assert readings(Findings()) == ()
