"""Verbs that look at a run leave it as it is."""

import json
import shutil

from jaxmedgen.train.metrics_log import read_metrics


def test_a_refused_run_leaves_the_data_description(run, fails, tiny, tmp_path):
    """Else a mistyped --workdir changes how another run's predictions are prepared."""
    workdir = tmp_path / "run"
    workdir.mkdir()
    train = ["train", "--config", "unet:cpu,arm=none", "--workdir", workdir, "--quiet", *tiny]
    status, _, err = run(*train, "--config.steps=3")
    assert status == 0, err
    before = (workdir / "dataset.json").read_text()
    assert "other settings" in fails(*train, "--config.data.shape=(8, 8, 8)")
    assert json.loads((workdir / "dataset.json").read_text()) == json.loads(before)


def test_evaluating_the_best_checkpoint_keeps_the_log(run, tiny, tmp_path):
    """The best checkpoint may be older than the end of the run; here it is made to be."""
    workdir = tmp_path / "run"
    train = ["train", "--config", "unet:cpu,arm=none", "--workdir", workdir, "--quiet", *tiny]
    train += ["--config.steps=4", "--config.checkpoint_every=2", "--config.log_every=1"]
    status, _, err = run(*train, "--config.eval_every=4")
    assert status == 0, err
    checkpoints = workdir / "checkpoints"
    shutil.rmtree(checkpoints / "best" / "4")
    shutil.move(checkpoints / "last" / "2", checkpoints / "best" / "2")
    before = read_metrics(workdir / "metrics.jsonl")
    assert before[-1]["step"] == 4
    status, _, err = run("evaluate", "--workdir", workdir, "--checkpoint", "best")
    assert status == 0, err
    after = read_metrics(workdir / "metrics.jsonl")
    assert [line for line in after if line["split"] != "test"] == before
    assert [line["step"] for line in after if line["split"] == "test"] == [2]
