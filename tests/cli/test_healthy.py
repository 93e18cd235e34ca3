"""Subjects without foreground, and folders without label maps, through the verbs."""

import json

import nibabel as nib
import numpy as np
import pytest

from jaxmedgen.data.phantoms.shapes import Shapes


@pytest.fixture
def folder(tmp_path):
    """Six scans of 16^3 in pairs; all but two are healthy."""
    source = Shapes(6, (16, 16, 16), 1)
    for number in range(6):
        record = source[number]
        label = record["label"] * (number in (1, 4))
        for name, array in {"images": record["image"][..., 0], "labels": label}.items():
            path = tmp_path / "data" / name / f"sub-{number}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            dtype = np.float32 if name == "images" else np.uint8
            nib.save(nib.Nifti1Image(array.astype(dtype), np.eye(4)), path)
    path = tmp_path / "data/splits_final.json"
    train = ["sub-0", "sub-1", "sub-2"]
    path.write_text(json.dumps([{"train": train, "val": ["sub-3", "sub-4"]}]))
    return tmp_path / "data"


def test_healthy_subjects_train_and_test(run, tiny, folder, tmp_path):
    tiny = [t for t in tiny if "data.kind" not in t and "data.train" not in t]
    call = ["train", "--config", "unet:cpu,arm=light", "--data", folder, "--quiet"]
    call += ["--workdir", tmp_path / "run", *tiny, "--config.steps=3"]
    call += [f"--config.data.split_file={folder}", "--config.patch_size=(12,12,12)"]
    call += ["--config.foreground_probability=1.0"]
    status, _, err = run(*call)
    assert status == 2 and "set --config.data.empty_labels=True" in err
    status, _, err = run(*call, "--config.data.empty_labels=True")
    assert status == 0, err
    status, out, err = run("evaluate", "--workdir", tmp_path / "run")
    assert status == 0, (out, err)
    cases = json.loads((tmp_path / "run/evaluation.json").read_text())["cases"]
    assert list(cases) == ["sub-5"]
    assert all(scores["reference_size"] == 0 for scores in cases["sub-5"].values())


def test_ablate_names_the_folder_that_may_hold_the_label_maps(fails, folder, tmp_path):
    (folder / "labels").rename(folder / "masks")
    told = fails("ablate", "--data", folder, "--workdir", tmp_path / "work")
    assert "no labels/ beside images/; rename masks/ to labels/" in told
