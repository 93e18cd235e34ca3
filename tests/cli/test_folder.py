"""A user's folder through the verbs: label values that are no class numbers, broken files."""

import json

import nibabel as nib
import numpy as np
import pytest

from jaxmedgen.data.phantoms.shapes import Shapes

VALUES = np.array([0, 3, 7])
"""Numbers in the files of background, ellipse and box."""


@pytest.fixture
def folder(tmp_path):
    """Six scans of 16^3 with labels, in pairs."""
    source = Shapes(6, (16, 16, 16), 1)
    for number in range(6):
        record = source[number]
        arrays = {"images": record["image"][..., 0], "labels": VALUES[record["label"]]}
        for name, array in arrays.items():
            path = tmp_path / "data" / name / f"sub-{number}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            dtype = np.float32 if name == "images" else np.uint8
            nib.save(nib.Nifti1Image(array.astype(dtype), np.eye(4)), path)
    return tmp_path / "data"


@pytest.fixture
def train(tiny, folder, tmp_path):
    """Arguments that train three steps on the folder."""
    tiny = [t for t in tiny if "data.kind" not in t and "data.train" not in t]
    arguments = ["train", "--config", "unet:cpu,arm=none", "--data", folder, "--quiet"]
    return [*arguments, "--workdir", tmp_path / "run", *tiny, "--config.steps=3"]


def test_references_have_the_numbers_of_the_training_labels(run, train, folder, tmp_path):
    status, _, err = run(*train, "--config.data.train=2")
    assert status == 0, err
    output = tmp_path / "out"
    arguments = ["--input", folder / "images", "--reference", folder / "labels"]
    status, _, err = run("predict", "--workdir", tmp_path / "run", "--output", output, *arguments)
    assert status == 0, err
    cases = json.loads((output / "evaluation.json").read_text())["cases"]
    assert len(cases) == 6
    sizes = {name: scores["reference_size"] for name, scores in cases["sub-0"].items()}
    label = Shapes(6, (16, 16, 16), 1)[0]["label"]
    assert list(sizes.values()) == [float((label == k).sum()) for k in (1, 2)]
    written = np.asarray(nib.load(output / "sub-0.nii.gz").dataobj)
    assert set(np.unique(written)) <= set(VALUES)
    assert list(json.loads((output / "labels.json").read_text())) == [str(v) for v in VALUES]
    both = ["--regions", "all=1+2", "--absent", "right"]
    call = ["--workdir", tmp_path / "run", "--output", output, *arguments, *both]
    status, _, err = run("predict", *call)
    assert status == 0, err
    cases = json.loads((output / "evaluation.json").read_text())["cases"]
    assert cases["sub-0"]["all"]["reference_size"] == float((label > 0).sum())
    status, out, err = run("evaluate", "--workdir", tmp_path / "run", *both)
    assert status == 0 and "all" in out, err


def test_all_cases_that_are_not_held_out_train(run, train, tmp_path):
    status, _, err = run(*train)
    assert status == 0, err


def test_broken_files_are_listed_before_anything_runs(run, train, folder, tmp_path):
    (folder / "labels" / "sub-1.nii.gz").unlink()
    (folder / "images" / "sub-2.nii.gz").write_bytes(b"not a scan")
    status, _, err = run(*train)
    assert status == 2
    first, *problems = err.strip().splitlines()
    assert first.startswith("error: ")
    assert "2 problems" in first
    assert any("sub-1.nii.gz: has no label" in line for line in problems)
    assert any("sub-2.nii.gz" in line for line in problems)
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("--config.data.test=9", "9 of 6 patients"),
        ("--config.data.train=9", "9 patients asked for"),
        ("--config.data.label_map=absent.csv", "absent.csv: No such file"),
    ],
)
def test_what_a_folder_cannot_give_is_named(fails, train, override, expected):
    assert expected in fails(*train, override)
