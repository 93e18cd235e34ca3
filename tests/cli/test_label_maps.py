"""A model of label maps through the command line: train, resume, sample by every method."""

import json

import nibabel as nib
import numpy as np
import pytest

from jaxmedgen.cli.main import main
from jaxmedgen.data.phantoms.short_axis import ShortAxis
from jaxmedgen.experiments.label_operators import OPERATORS
from jaxmedgen.experiments.label_synthesis import METHODS
from jaxmedgen.experiments.synthetic.anatomy import deformation_of
from jaxmedgen.experiments.synthetic.label_models import population_of, refuse_held_out

SMALL = [
    "--config.data.shape=(32, 32)",
    "--config.data.train=12",
    "--config.data.test=2",
    "--config.batch_size=8",
    "--config.net.features=(4,)",
    "--config.net.neck=16",
    "--config.net.latents=4",
    "--config.steps=6",
    "--config.show_every=6",
    "--config.checkpoint_every=3",
    "--config.parallel.data=1",
]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work") / "vae"
    arguments = ["train", "--config", "label_deformation:cpu", "--workdir", str(folder), *SMALL]
    assert main(arguments) == 0
    return folder


def test_training_shows_its_reconstructions(workdir):
    assert (workdir / "samples" / "step_000006.png").is_file()


@pytest.mark.parametrize("method", (*METHODS, *OPERATORS))
def test_subjects_are_made_of_training_subjects_alone(run, workdir, tmp_path, method):
    status, out, err = run(
        "sample", "--workdir", workdir, "--output", tmp_path, "--count", "2", "--method", method
    )
    assert status == 0, err
    assert "wrote 2 samples" in out
    records = json.loads((tmp_path / "records.json").read_text())
    training = {f"heart-{k:05d}-ED" for k in range(12)}
    for record in records:
        image = nib.load(tmp_path / "labels" / f"{record['name']}.nii.gz")
        assert image.shape[:2] == (32, 32) and (image.shape[2] == 32) == (method in METHODS)
        assert image.get_data_dtype() == np.uint8
        np.testing.assert_allclose(
            image.header.get_zooms(), [5, 5, record["spacing"][0]], rtol=1e-5
        )
        assert record["slice_axis"] == 2 and record["class_names"][1] == "lv_blood"
        assert set(record["sources"]) <= training and record["method"] == method
        assert len(record["sources"]) == (2 if method == "between" else 1)
        if method in METHODS:
            assert (record["disease"] in ("DCM", "HCM", "RV")) == (method == "pathology")
    assert (tmp_path / "samples.png").is_file()


def test_misuse_is_named(fails, workdir, tmp_path):
    assert "choose one of equalised" in fails(
        "sample", "--workdir", workdir, "--output", tmp_path, "--method", "magic"
    )
    assert "--layout nnunet is for labelled images" in fails(
        "sample", "--workdir", workdir, "--output", tmp_path, "--layout", "nnunet"
    )
    config = ["sample", "--config", "label_deformation", "--output", tmp_path, *SMALL]
    assert "give --workdir" in fails(*config)
    assert "for models of label maps" in fails(
        "sample",
        "--config",
        "unet:cpu,arm=synthesis",
        "--output",
        tmp_path,
        "--method",
        "between",
        "--config.data.kind=shapes",
        "--config.data.shape=(16, 16, 16)",
    )


def test_a_path_from_health_to_a_disease(run, fails, workdir, tmp_path):
    """All steps of one start and one end; wishes that a method does not look at are refused."""
    flags = ("--method", "pathology", "--disease", "HCM", "--steps", "4", "--count", "1")
    status, _, err = run("sample", "--workdir", workdir, "--output", tmp_path, *flags)
    assert status == 0, err
    records = json.loads((tmp_path / "records.json").read_text())
    assert [r["t"] for r in records] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert {r["disease"] for r in records} == {"HCM"} and {r["phase"] for r in records} == {"ED"}
    assert len({tuple(r["sources"]) for r in records}) == 1
    assert len(list((tmp_path / "labels").iterdir())) == 4
    again = ("sample", "--workdir", workdir, "--output", tmp_path, "--method")
    assert "--steps is for --method between or" in fails(*again, "equalised", "--steps", "3")
    assert "--attribute is for --method targeted" in fails(*again, "between", "--attribute", "mass")
    assert "known are ED" in fails(*again, "between", "--phase", "ES")
    assert "share from 0 to 1" in fails(*again, "between", "--plausible", "2")
    assert "--embed is for" in fails(*again, "elastic", "--embed", "sample")


def test_subjects_may_be_drawn_beyond_a_path_and_from_posteriors(run, workdir, tmp_path):
    base = ("sample", "--workdir", workdir, "--method", "between", "--count", "1", "--output")
    labels = {}
    for name, flags in {
        "end": ("--t", "1"),
        "beyond": ("--t", "1.5"),
        "drawn": ("--t", "1", "--embed", "sample"),
    }.items():
        status, _, err = run(*base, tmp_path / name, *flags)
        assert status == 0, err
        (record,) = json.loads((tmp_path / name / "records.json").read_text())
        assert record["t"] == (1.5 if name == "beyond" else 1)
        labels[name] = nib.load(tmp_path / name / "labels" / "subject_00000.nii.gz").get_fdata()
    assert (labels["beyond"] != labels["end"]).any() and (labels["drawn"] != labels["end"]).any()


def test_its_hearts_are_anatomies_of_the_experiments(workdir):
    """FOLDER:METHOD as a deformation of label maps; a model that saw held-out subjects is named."""
    hearts = ShortAxis(2, (48, 48), classes=8)
    label = np.stack([hearts[i]["label"] for i in range(2)])
    spacing = hearts.info.spacing
    made = deformation_of(f"{workdir}:targeted", spacing)(0, label)
    assert made.shape == label.shape and (made != label).any() and made.max() <= 7
    organs = (label > 3) & (made > 3)
    np.testing.assert_array_equal(made[organs], label[organs])
    population = population_of(workdir)
    names = [stack.name for stack in population.stacks]
    refuse_held_out(names, ["heart-00099-ED"], "it")
    with pytest.raises(ValueError, match="it was trained on held-out patients"):
        refuse_held_out(names, ["heart-00003-ED"], "it")
    with pytest.raises(ValueError, match="trained on held-out patients"):
        deformation_of(f"{workdir}:targeted", spacing, ["heart-00003-ES"])
    acdc = ("background", "RV", "MYO", "LV")
    with pytest.raises(ValueError, match="RV, MYO, LV: hearts are left cavity"):
        deformation_of(f"{workdir}:targeted", spacing, (), acdc)
    with pytest.raises(ValueError, match="'magic' of a model"):
        deformation_of(f"{workdir}:magic", spacing)
