"""Two folders of images compared by the example of the help: no groups, other units."""

import json

import nibabel as nib
import numpy as np
import pytest

from jaxmedgen.data.phantoms.heart_slices import HeartSlices


@pytest.fixture
def folders(tmp_path):
    """Real slices in units of their own, synthetic ones in [-1, 1]."""
    found = []
    for seed, (name, count, scale, shift) in enumerate((("real", 14, 900, 0), ("made", 7, 2, -1))):
        source = HeartSlices(count, shape=(32, 32), seed=seed)
        for number in range(count):
            record = source[number]
            image = scale * record["image"][..., 0] + shift
            for kind, array in (("images", image), ("labels", record["label"])):
                path = tmp_path / name / kind / f"sub-{number}.nii.gz"
                path.parent.mkdir(parents=True, exist_ok=True)
                dtype = np.float32 if kind == "images" else np.uint8
                nib.save(nib.Nifti1Image(np.asarray(array, dtype)[..., None], np.eye(4)), path)
        found.append(tmp_path / name)
    return found


def test_two_folders_without_groups(run, fails, folders, tmp_path):
    real, made = folders
    command = ["evaluate", "--real", real, "--synthetic", made, "--workdir", tmp_path / "realism"]
    message = fails(*command)
    assert "the real images lie in" in message and "give --standardize" in message
    status, out, err = run(*command, "--standardize", "--readers", 1)
    assert status == 0, err
    assert "note: no two groups of real images are known" in out
    stored = json.loads((tmp_path / "realism" / "realism.json").read_text())
    assert any("random weights; give --groups" in text for text in stored["warnings"])
    assert stored["extractor"]["name"].startswith("random")
    assert (tmp_path / "realism" / "readers" / "reader1" / "001.png").exists()
    assert "two or more groups" in fails(*command, "--standardize", "--extractor", "classifier")
