"""Label-conditional synthesis through the command line: train, then a data set of nnU-Net."""

import json

import nibabel as nib
import numpy as np

from jaxmedgen.data.layouts import discover

# Little to compile: tests/systems has SPADE and two scales.
QUICK = "cardiac_synthesis:cpu,modulation=clade,ablation=single_scale"
TINY = [
    "--config.data.shape=(32, 32)",
    "--config.data.train=8",
    "--config.data.test=0",
    "--config.batch_size=4",
    "--config.model.width=2",
    "--config.model.levels=1",
    "--config.model.hidden=4",
    "--config.model.latent=4",
    "--config.model.style_width=2",
    "--config.discriminator.features=(4, 4)",
    "--config.features.kind=gradients",
    "--config.steps=3",
    "--config.checkpoint_every=2",
    "--config.show_every=3",
    "--config.parallel.data=1",
]


def test_a_trained_generator_writes_a_data_set_for_nnunet(run, tmp_path):
    work, output = tmp_path / "work", tmp_path / "Dataset900_Synthetic"
    status, _, err = run("train", "--config", QUICK, "--workdir", work, "--quiet", *TINY)
    assert status == 0, err
    assert (work / "samples" / "samples.png").is_file()
    assert list((work / "samples").glob("step_*.png"))
    sample = ["sample", "--workdir", work, "--count", "3", "--output", output]
    status, out, err = run(*sample, "--layout", "nnunet")
    assert status == 0, err
    assert "wrote 3 samples" in out
    description = json.loads((output / "dataset.json").read_text())
    assert description["labels"] == {
        "background": 0, "lv_blood": 1, "lv_myocardium": 2, "rv_blood": 3,
    }  # fmt: skip
    assert description["numTraining"] == 3 and description["file_ending"] == ".nii.gz"
    layout = discover(output)
    assert layout.kind == "nnunet" and len(layout.cases) == 3 and not layout.problems
    manifest = json.loads((output / "manifest.json").read_text())
    assert [e["name"] for e in manifest["images"]] == [f"sample_{k:05d}" for k in range(3)]
    assert (manifest["deformation"], manifest["style"], manifest["styles"]) == ("none", "random", 3)
    # Label files get images on their own grid, in the style of a scan.
    affine = np.array([[0, 0, -8.0, 3], [-2.5, 0, 0, 1], [0, 2.5, 0, 7], [0, 0, 0, 1]])
    stack = np.asarray(nib.load(layout.cases[0].label).dataobj)
    stack = np.moveaxis(stack, 0, 2).astype(np.uint8)
    nib.save(nib.Nifti1Image(stack, affine), tmp_path / "turned.nii.gz")
    arguments = ["--labels", tmp_path / "turned.nii.gz", "--style", layout.cases[1].images[0]]
    status, _, err = run("sample", "--workdir", work, "--output", tmp_path / "made", *arguments)
    assert status == 0, err
    made, label = (nib.load(tmp_path / "made" / k / "turned.nii.gz") for k in ("images", "labels"))
    np.testing.assert_allclose(made.affine, affine)
    assert made.shape == stack.shape
    np.testing.assert_array_equal(np.asarray(label.dataobj), stack)
    # Or several, on the way to the style of another scan.
    arguments += ["--to-style", layout.cases[2].images[0], "--count", "3"]
    status, out, err = run("sample", "--workdir", work, "--output", tmp_path / "path", *arguments)
    assert status == 0 and "wrote 3 images" in out, err
    path = [nib.load(tmp_path / "path" / "images" / f"turned_t{k:02d}.nii.gz") for k in range(3)]
    np.testing.assert_allclose(path[0].get_fdata(), made.get_fdata(), atol=1e-4)
    assert np.abs(path[2].get_fdata() - path[0].get_fdata()).max() > 0
    # Or one, in the style at the place of its label map on a path.
    hearts = tmp_path / "hearts" / "labels"
    hearts.mkdir(parents=True)
    for k in range(2):
        nib.save(nib.Nifti1Image(stack, affine), hearts / f"subject_{k:04d}.nii.gz")
    records = [{"name": f"subject_{k:04d}", "t": float(k)} for k in range(2)]
    (tmp_path / "hearts" / "records.json").write_text(json.dumps(records))
    along = ["--labels", hearts, *arguments[2:-2], "--style-by-place"]
    status, out, err = run("sample", "--workdir", work, "--output", tmp_path / "along", *along)
    assert status == 0 and "wrote 2 images" in out, err
    for k, same in ((0, path[0]), (1, path[2])):
        image = nib.load(tmp_path / "along" / "images" / f"subject_{k:04d}.nii.gz")
        np.testing.assert_allclose(image.get_fdata(), same.get_fdata(), atol=1e-4)
    styles = json.loads((tmp_path / "along" / "manifest.json").read_text())
    assert [e["subject"] for e in styles["images"]] == [r["name"] for r in records]
    (tmp_path / "hearts" / "records.json").write_text("[]")
    status, _, err = run("sample", "--workdir", work, "--output", tmp_path / "along", *along)
    assert status == 2 and "no place of subject_0000" in err
    # A subject's own style, and no vendors without names for them.
    own = ["sample", "--workdir", work, "--output", tmp_path / "own", "--count", "2"]
    status, _, err = run(*own, "--style", "own")
    assert status == 0, err
    styles = json.loads((tmp_path / "own" / "manifest.json").read_text())
    assert styles["style"] == "own" and {e["style"] for e in styles["images"]} <= {"A", "B"}
    status, _, err = run(*own, "--vendor", "B")
    assert status == 2 and "have no names" in err
    for case in layout.cases:
        image, label = nib.load(case.images[0]), nib.load(case.label)
        assert image.shape == label.shape and image.shape[1:] == (32, 32)
        np.testing.assert_array_equal(image.affine, label.affine)
        assert np.abs(image.get_fdata()).max() <= 1
        assert set(np.unique(label.dataobj)) == {0, 1, 2, 3}
