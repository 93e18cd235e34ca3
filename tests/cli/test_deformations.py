"""A model of deformations through the command line: train, deform subjects, register a group."""

import json

import nibabel as nib
import numpy as np
import pytest

from jaxmedgen.cli.main import main

SMALL = [
    "--config.data.shape=(16, 16)",
    "--config.data.train=4",
    "--config.data.test=3",
    "--config.batch_size=4",
    "--config.model.features=(4, 8)",
    "--config.model.grid=4",
    "--config.steps=4",
    "--config.parallel.data=1",
]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run of the groupwise arm."""
    folder = tmp_path_factory.mktemp("work") / "template"
    config = "it_vae:cpu,data=population,arm=groupwise,transformer=affinediff"
    assert main(["train", "--config", config, "--workdir", str(folder), *SMALL]) == 0
    return folder


def test_subjects_are_deformed_with_their_labels(run, workdir, tmp_path):
    status, out, err = run("sample", "--workdir", workdir, "--output", tmp_path, "--count", "5")
    assert status == 0, err
    assert "wrote 5 samples" in out
    assert len(list((tmp_path / "images").iterdir())) == 5
    for number in range(5):
        image, label = (
            np.squeeze(nib.load(tmp_path / kind / f"sample_{number:05d}.nii.gz").get_fdata())
            for kind in ("images", "labels")
        )
        assert image.shape == label.shape == (16, 16)
        assert image[label > 0].mean() > image[label == 0].mean() + 1
    assert (tmp_path / "samples.png").is_file()


def test_a_group_is_registered(run, workdir):
    status, out, err = run("evaluate", "--workdir", workdir)
    assert status == 0, err
    assert "mean pairwise Dice of 3 subjects" in out
    assert json.loads((workdir / "autoencoder.json").read_text())["elbo"] < 0
    written = json.loads((workdir / "alignment.json").read_text())
    assert 0 < written["dice_before"] < 1 and written["step"] == 4
    fields = sorted((workdir / "aligned" / "fields").iterdir())
    assert [f.name for f in fields] == [f"subject-{i:05d}.nii.gz" for i in (4, 5, 6)]
    assert np.squeeze(nib.load(fields[0]).get_fdata()).shape == (16, 16, 2)


@pytest.mark.parametrize("arm", ["vae", "c-vitae"])
def test_an_autoencoder_of_glyphs_is_scored(run, tmp_path, arm):
    """Without label maps: bounds, D scores and probes."""
    settings = ["--config.data.train=40", "--config.data.test=30", "--config.batch_size=8"]
    settings += ["--config.model.features=(8, 8)", "--config.steps=3", "--config.parallel.data=1"]
    config = f"it_vae:cpu,data=glyphs,arm={arm}"
    status, _, err = run("train", "--config", config, "--workdir", tmp_path, "--quiet", *settings)
    assert status == 0, err
    status, out, err = run("evaluate", "--workdir", tmp_path, "--samples", "7")
    assert status == 0, err
    found = json.loads((tmp_path / "autoencoder.json").read_text())
    assert (found["step"], found["samples"]) == (3, 7)
    assert found["elbo"] <= found["log_evidence"] < 0
    assert 0 <= found["d_score"] <= 1 and 0 <= found["probe_appearance"] <= 1
    assert ("probe_perspective" in found) == (arm == "c-vitae")
    assert "elbo -" in out and "d_score" in out


def test_deformations_come_from_a_trained_model(fails, tmp_path):
    sample = ["sample", "--config", "it_vae:cpu,data=population", "--output", tmp_path]
    assert "give --workdir" in fails(*sample, *SMALL)
