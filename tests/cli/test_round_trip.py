"""Train, evaluate, predict and sample through the command line, files in and files out."""

import csv
import json

import jax
import nibabel as nib
import numpy as np
import pytest

from jaxmedgen.cli.main import main
from jaxmedgen.data.layouts import discover
from jaxmedgen.data.phantoms.shapes import Shapes
from jaxmedgen.train.metrics_log import read_metrics

AFFINE = np.array(  # mm of right, anterior, superior; the file's axes run A, L, I
    [[0.0, -1.0, 0.0, 31.5], [1.0, 0.0, 0.0, -7.25], [0.0, 0.0, -1.0, 12.0], [0, 0, 0, 1]]
)


@pytest.fixture(scope="module")
def settings(tiny):
    config = ["--config", "unet:cpu,arm=none", *tiny, "--config.steps=60", "--config.eval_every=60"]
    return [*config, "--config.optimizer.learning_rate", "2e-2"]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, settings):
    """A run of 60 steps, through the command line."""
    folder = tmp_path_factory.mktemp("work") / "run"
    before = jax.config.jax_compilation_cache_dir
    assert main(["train", "--workdir", str(folder), "--quiet", *settings]) == 0
    yield folder
    jax.config.update("jax_compilation_cache_dir", before)


def turned(array):
    """[R, A, S] -> [A, L, I], the order of `AFFINE`."""
    return np.ascontiguousarray(np.flip(array.swapaxes(0, 1), axis=(1, 2)))


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(turned(array), AFFINE, dtype=array.dtype)
    image.set_sform(AFFINE, code=1)
    image.set_qform(AFFINE, code=2)
    nib.save(image, path)
    return path


def overlap(prediction, label):
    """Dice of all foreground."""
    a, b = prediction > 0, label > 0
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_training_fills_the_folder(workdir):
    for name in ("config.json", "environment.json", "dataset.json", "metrics.jsonl"):
        assert (workdir / name).is_file(), name
    for name in ("tensorboard", "checkpoints/last/60", "checkpoints/best/60", "cache"):
        assert (workdir / name).is_dir(), name
    assert json.loads((workdir / "config.json").read_text())["net"]["features"] == [4, 8]
    assert "jax" in json.loads((workdir / "environment.json").read_text())["versions"]
    lines = [r for r in read_metrics(workdir / "metrics.jsonl") if r["split"] != "test"]
    found = [(line["step"], line["split"]) for line in lines]
    assert found == [(20, "train"), (40, "train"), (60, "train"), (60, "validation")]
    assert lines[2]["loss"] < lines[1]["loss"] < lines[0]["loss"]
    assert {"dice", "dice_ellipse", "dice_box"} <= set(lines[3])


def test_training_again_goes_on_or_refuses(run, fails, workdir, settings):
    before = (workdir / "config.json").read_text()
    lines = read_metrics(workdir / "metrics.jsonl")
    train = ["train", "--workdir", workdir, *settings]
    message = fails(*train, "--config.net.dropout=0.5", "--config.seed=9")
    assert "net.dropout: 0.0 -> 0.5" in message
    assert "seed: 0 -> 9" in message
    assert "--workdir" in message
    assert (workdir / "config.json").read_text() == before
    # A finished run has nothing left to do; how often is logged may differ.
    status, out, err = run(*train, "--quiet", "--config.log_every=5")
    assert status == 0, err
    assert "trained 60 steps" in out
    assert "best validation Dice" in out
    assert str(workdir) in out
    assert read_metrics(workdir / "metrics.jsonl") == lines


def test_evaluate_scores_every_case_and_class(run, workdir):
    before = read_metrics(workdir / "metrics.jsonl")
    status, out, err = run("evaluate", "--workdir", workdir)
    assert status == 0, err
    assert "ellipse" in out
    assert "Dice" in out
    with (workdir / "evaluation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["case"] for row in rows} == {"shapes-0-00005", "shapes-0-00006"}
    assert json.loads((workdir / "evaluation.json").read_text())
    lines = read_metrics(workdir / "metrics.jsonl")
    assert lines[:-1] == before
    assert (lines[-1]["step"], lines[-1]["split"]) == (60, "test")
    assert 0 < lines[-1]["dice"] <= 1
    for case in ("shapes-0-00005", "shapes-0-00006"):
        assert (workdir / "predictions" / f"{case}.png").exists()
        prediction = nib.load(workdir / "predictions" / f"{case}.nii.gz")
        assert prediction.shape == (16, 16, 16)


def test_predict_writes_on_the_grid_of_the_scan(run, workdir, tmp_path):
    record = Shapes(8, (16, 16, 16), 0)[5]
    scan = write(tmp_path / "scans" / "subject.nii.gz", record["image"][..., 0])
    label = write(tmp_path / "labels" / "subject.nii.gz", record["label"])
    output = tmp_path / "segmented"
    arguments = ["--input", scan, "--output", output, "--reference", label, "--flips"]
    status, _, err = run("predict", "--workdir", workdir, *arguments)
    assert status == 0, err
    made = nib.load(output / "subject.nii.gz")
    np.testing.assert_array_equal(made.affine, nib.load(scan).affine)
    assert (made.header["sform_code"], made.header["qform_code"]) == (1, 2)
    assert nib.aff2axcodes(made.affine) == ("A", "L", "I")
    found = np.asarray(made.dataobj)
    assert found.dtype.kind in "iu"
    # In another orientation the shapes would be found elsewhere.
    assert overlap(found, turned(record["label"])) > 0.6
    assert overlap(found, record["label"]) < 0.5
    assert json.loads((output / "labels.json").read_text())["1"] == "ellipse"
    assert (output / "subject.png").is_file()
    with (output / "evaluation.csv").open() as file:
        assert {row["case"] for row in csv.DictReader(file)} == {"subject"}

    # A folder of scans is segmented likewise.
    folder = ["--input", scan.parent, "--output", tmp_path / "folder"]
    status, _, err = run("predict", "--workdir", workdir, *folder)
    assert status == 0, err
    again = np.asarray(nib.load(tmp_path / "folder" / "subject.nii.gz").dataobj)
    assert overlap(again, turned(record["label"])) > 0.6


def test_predict_sees_the_whole_of_a_larger_scan(run, workdir, tmp_path):
    """Two subjects side by side: neither may be cut off silently."""
    records = [Shapes(8, (16, 16, 16), 0)[number] for number in (5, 6)]
    both = np.concatenate([r["image"][..., 0] for r in records])
    scan = write(tmp_path / "long.nii.gz", both)
    status, _, err = run(
        "predict", "--workdir", workdir, "--input", scan, "--output", tmp_path / "out"
    )
    assert status == 0, err
    label = turned(np.concatenate([r["label"] for r in records]))
    made = np.asarray(nib.load(tmp_path / "out" / "long.nii.gz").dataobj)
    assert made.shape == label.shape
    for end in (slice(0, 8), slice(24, 32)):
        assert overlap(made[:, end], label[:, end]) > 0


def test_predict_names_what_is_wrong_with_the_input(fails, workdir, tmp_path):
    predict = ["predict", "--workdir", workdir, "--output", tmp_path / "out", "--input"]
    absent = tmp_path / "absent.nii.gz"
    assert f"{absent}: no such file" in fails(*predict, absent)
    scan = write(tmp_path / "scan.nii.gz", Shapes(1, (16, 16, 16), 0)[0]["image"][..., 0])
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(scan.read_bytes()[:100])
    assert str(broken) in fails(*predict, broken)
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in fails(*predict, tmp_path / "empty")
    for number in range(2):  # two scans, or two channels of one?
        write(tmp_path / "two" / f"scan_000{number}.nii.gz", nib.load(scan).get_fdata())
    message = fails(*predict, tmp_path / "two")
    assert "2 channel(s) where the run has 1" in message and "NAME_0000.nii.gz" in message


def test_a_run_without_synthesis_has_nothing_to_sample(fails, workdir, tmp_path):
    message = fails("sample", "--workdir", workdir, "--output", tmp_path)
    assert "--config.augment.synthesis_probability" in message


def test_sample_writes_labelled_scans(run, tiny, tmp_path):
    sample = ["sample", "--output", tmp_path, "--count", "2"]
    status, out, err = run(*sample, "--config", "unet:cpu,arm=synthesis", *tiny)
    assert status == 0, err
    assert "wrote 2 samples" in out
    # Their numbers are not those of channels: every file is a scan of its own.
    assert [len(c.images) for c in discover(tmp_path / "images", contents="images").cases] == [1, 1]
    for number in range(2):
        image = nib.load(tmp_path / "images" / f"sample_{number:05d}.nii.gz")
        classes = nib.load(tmp_path / "labels" / f"sample_{number:05d}.nii.gz")
        assert image.shape == classes.shape == (16, 16, 16)
        assert np.isfinite(image.get_fdata()).all()
        assert set(np.unique(classes.dataobj)) <= {0, 1, 2}
    assert (tmp_path / "samples.png").is_file()


def test_a_missing_checkpoint_is_named(fails, workdir, tmp_path):
    empty = tmp_path / "run"
    empty.mkdir()
    for name in ("config.json", "dataset.json"):
        (empty / name).write_text((workdir / name).read_text())
    message = fails("evaluate", "--workdir", empty, "--checkpoint", "best")
    assert "no 'best' checkpoint" in message
    assert "bin/train" in message
