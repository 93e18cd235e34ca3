"""bin/reproduce: what is recorded of the command, and where the pages go."""

import importlib
import json

import pytest

from jaxmedgen.cli import reproduce
from jaxmedgen.experiments.reproductions import genseg_digits, record, synthseg
from jaxmedgen.experiments.reproductions.trained_model import collapse_notes


def test_record_names_no_file_of_the_user(tmp_path, monkeypatch, capsys):
    claim = record.Claim("more is more", ">= 1", 0.5, None, False)
    outcome = record.Reproduction(system="unet", seeds=1, seconds=1.0, claims=(claim,))
    seen = []

    def fake(options):
        seen.append(options)
        return outcome

    monkeypatch.setattr(synthseg, "reproduce", fake)
    data, docs = tmp_path / "secret project", tmp_path / "docs"
    status = reproduce.main(
        [
            "synthseg",
            *("--data", str(data), "--docs", str(docs), "--orientation", "LIA"),
            *("--workdir", str(tmp_path / "w")),
            *("--config.steps=7", f"--config.cache={tmp_path}"),
        ]
    )
    assert status == 0
    assert seen[0].data == str(data) and seen[0].overrides["steps"] == "7"
    written = json.loads((docs / "results" / "synthseg.json").read_text())
    assert written["command"] == (
        "bin/reproduce synthseg --data DATA --orientation LIA --config.steps=7 --config.cache=PATH"
    )
    for page in ("results/synthseg.md", "results.md"):
        text = (tmp_path / "docs" / page).read_text()
        assert "secret" not in text and "more is more" in text
    assert "FAILS  more is more" in capsys.readouterr().out


def test_parts_are_those_that_an_experiment_offers(tmp_path, monkeypatch, capsys):
    seen = []

    def fake(options):
        seen.append(options)
        return record.Reproduction(system="genseg", seeds=1, seconds=1.0, claims=())

    monkeypatch.setattr(genseg_digits, "reproduce", fake)
    folders = ("--workdir", str(tmp_path / "w"))
    assert reproduce.main(["genseg_digits", "--parts", "hard,simple", *folders]) == 0
    assert seen[0].parts == ("hard", "simple")
    written = json.loads((tmp_path / "w" / "record" / "genseg_digits.json").read_text())
    assert written["command"] == "bin/reproduce genseg_digits --parts hard,simple"
    for arguments, told in (
        (["genseg_digits", "--parts", "huge"], "it has simple, hard"),
        (["heldout_contrast", "--parts", "large"], "none to choose from"),
        (["unet", "--docs", "docs", "--output", "out"], "give one"),
    ):
        with pytest.raises(SystemExit):
            reproduce.main([*arguments, *folders])
        assert told in capsys.readouterr().err
    assert len(seen) == 1
    assert not (tmp_path / "w" / "results.md").exists()


def test_what_an_experiment_does_not_read_is_refused(tmp_path, capsys):
    """The record would say that it was used; and one seed for all trainings that it was three."""
    folders = ("--workdir", str(tmp_path / "w"))
    for arguments, told in (
        (["cardiac_synthesis", "--data", "x"], "--data: cardiac_synthesis reads none"),
        (["augmentations", "--data", "x"], "it takes no files: leave it out"),
        (["it_vae", "--data", "x", "--scan", "y"], "--scan: it_vae reads none, it takes --data"),
        (["heldout_contrast", "--orientation", "LIA"], "--orientation: heldout_contrast reads"),
        (["synthetic_data_trained", "--parts", "x"], "none to choose from"),
        (["gcnn_pose", "--config.seed=1"], "--config.seed: an experiment trains with seeds"),
    ):
        with pytest.raises(SystemExit):
            reproduce.main([*arguments, *folders])
        said = capsys.readouterr().err
        assert told in said and said.count("\n") == 1
    assert not (tmp_path / "w").exists()


def test_only_experiments_are_offered():
    names = reproduce._names()
    assert {"unet", "genseg", "cardiac_synthesis", "heldout_contrast"} <= set(names)
    assert not {"trained_model", "record", "study", "it_vae_factors", "cardiac"} & set(names)
    module = importlib.import_module(f"jaxmedgen.experiments.reproductions.{names[0]}")
    assert callable(module.reproduce)


def test_collapsed_trainings_are_named(tmp_path):
    """Of all trainings in the work folder, each by its place."""
    for name, diversity in (("vae/seed0", 0.01), ("label/seed1", 0.9)):
        (tmp_path / name).mkdir(parents=True)
        lines = [
            {"step": 10 * k, "split": "train", "generator/diversity": diversity} for k in range(8)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / name / "metrics.jsonl").write_text(text)
    (found,) = collapse_notes(record.Options(tmp_path))
    assert found.startswith("vae/seed0: samples hardly vary") and found.endswith("0 to 70.")
