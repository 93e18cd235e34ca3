"""Scores, tables, and volumes from planes in files."""

import json

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from jaxmedgen.configuration import load_config
from jaxmedgen.data.untrusted import DataError
from jaxmedgen.experiments.prediction import predict_files
from jaxmedgen.experiments.reconstruction.scoring import (
    EVERY_SET,
    availability,
    score_volume,
    to_mask,
)
from jaxmedgen.experiments.reconstruction.tables import published_layout, view_names
from jaxmedgen.experiments.run_evaluation import evaluate_run
from jaxmedgen.experiments.runs import describe_data, train_run
from jaxmedgen.experiments.training import claim_workdir
from jaxmedgen.train.checkpoint import Checkpointer
from jaxmedgen.train.progress import Progress
from tests.data.test_planes import write_cases
from tests.systems.hcvae_toys import TINY, fresh, tiny

ONE = {"parallel.data": "1"}


def test_scores_of_shifted_boxes():
    truth = np.zeros((20, 20, 20), bool)
    truth[4:14, 4:14, 4:14] = True
    moved = np.roll(truth, 2, 0)
    spacing = (2.0, 1.0, 1.0)
    found = score_volume("box", moved, truth, spacing)
    np.testing.assert_allclose((found.dice, found.rvd), (0.8, 0.0), atol=1e-9)
    np.testing.assert_allclose(found.hd, 4.0, atol=0.2)
    np.testing.assert_allclose((found.bpd, found.ofd, found.hc), 0, atol=1e-6)
    smaller = truth.copy()
    smaller[:, :, 12:] = False
    assert score_volume("box", smaller, truth, spacing).rvd == pytest.approx(-0.2)
    empty = score_volume("box", np.zeros_like(truth), truth, spacing)
    assert empty.dice == 0 and empty.rvd == -1 and empty.hd == pytest.approx(np.sqrt(2400))
    noisy = truth * 0.8
    noisy[0, 0, 0] = 0.9
    np.testing.assert_array_equal(to_mask(noisy), truth)


def test_tables_have_a_part_a_set_of_views():
    assert len(EVERY_SET) == 7 and view_names((1, 0)) == "axial+sagittal"
    assert view_names(()) == "those given"
    given = np.array([[1.0, 0.0, 1.0]])
    np.testing.assert_array_equal(availability((0, 1), given), [[1, 0, 0]])
    truth = np.zeros((8, 8, 8), bool)
    truth[2:6, 2:6, 2:6] = True
    cases = [score_volume(str(k), np.roll(truth, k, 1), truth, (1.0,) * 3) for k in (0, 2)]
    text = published_layout({"ours": {(0,): cases}, "theirs": {(0, 1): cases}}, [(0, 1), (0,)])
    assert "Views: axial+sagittal" in text and text.count("| ours |") == 1
    assert "0.75 ± 0.35" in text  # Dice 1 and 0.5


def save_fresh(workdir, argument):
    """A run of a model with random weights, as if it had been trained."""
    config, sources, system = tiny(argument)
    claim_workdir(config, workdir)
    describe_data(workdir, sources.info, config, sources.train)
    checkpoints = Checkpointer(workdir)
    checkpoints.save(fresh(system), {})
    checkpoints.close()


def test_planes_in_files_become_volumes_in_files(tmp_path):
    save_fresh(tmp_path / "run", "arm=hcvae,dropout=any")
    write_cases(tmp_path / "cases", 2)
    planes = tmp_path / "cases" / "planes"
    (planes / "sub-00001_scan-1_sagittal.nii.gz").unlink()
    console, output = Console(record=True, width=200), tmp_path / "out"
    predict_files(
        tmp_path / "run", planes, output, reference=tmp_path / "cases" / "labels", console=console
    )
    text = console.export_text()
    assert "sub-00000_scan-1: built from axial, sagittal, coronal\n" in text
    assert "sub-00001_scan-1: built from axial, coronal; missing: sagittal" in text
    for name in ("sub-00000_scan-1", "sub-00001_scan-1"):
        found = nib.load(output / f"{name}_uncertainty.nii.gz")
        assert found.shape == (8, 8, 8) and np.ptp(found.get_fdata()) > 0
        np.testing.assert_allclose(found.header.get_zooms(), 150 / 8)
        middle = found.affine @ [3.5, 3.5, 3.5, 1]
        np.testing.assert_allclose(middle[:3], 0, atol=1e-5)
        mask = nib.load(output / f"{name}.nii.gz").get_fdata()
        assert set(np.unique(mask)) <= {0, 1}
        assert (output / f"{name}.png").exists()
        assert (output / f"{name}.stl").exists() == bool(mask.any())
    sizes = json.loads((output / "biometry.json").read_text())
    assert set(sizes["sub-00000_scan-1"]) == {"bpd", "ofd", "hc", "volume"}
    assert (output / "evaluation.csv").read_text().count("\n") == 3
    with pytest.raises(DataError, match="no NIfTI files NAME_VIEW"):
        (tmp_path / "empty").mkdir()
        predict_files(tmp_path / "run", tmp_path / "empty", output, console=console)


def test_a_combination_that_nobody_trained_is_refused(tmp_path):
    save_fresh(tmp_path / "run", "arm=hcvae")
    write_cases(tmp_path / "cases", 1, views=("sagittal", "coronal"))
    planes = tmp_path / "cases" / "planes"
    with pytest.raises(DataError, match="no axial plane, and this model was never trained"):
        predict_files(tmp_path / "run", planes, tmp_path / "out", console=Console(record=True))


def test_a_model_of_other_views_says_which_it_needs(tmp_path):
    settings = TINY | {"batch_size": "8", "show_every": "0"} | ONE
    config = load_config("hcvae:cpu,arm=pca,views=axial", settings)
    train_run(config, tmp_path / "run", progress=Progress(quiet=True))
    write_cases(tmp_path / "cases", 1, views=("axial", "coronal"))
    planes = tmp_path / "cases" / "planes"
    console = Console(record=True, width=200)
    predict_files(tmp_path / "run", planes, tmp_path / "out", console=console)
    assert "built from axial; not known to this model and left out: coronal" in (
        console.export_text()
    )
    assert (tmp_path / "out" / "sub-00000_scan-1.vtk").exists()
    scored = evaluate_run(tmp_path / "run", data=None, kind="last", console=console)
    text = console.export_text()
    assert scored == [] and "Views: axial" in text and "sagittal" not in text.split("Views")[-1]
    assert (tmp_path / "run" / "evaluation.csv").read_text().count("\n") == 3
    (planes / "sub-00000_scan-1_axial.nii.gz").unlink()
    with pytest.raises(DataError, match="has only coronal, but this model was trained with axial"):
        predict_files(tmp_path / "run", planes, tmp_path / "out", console=console)
