"""A PADDIT atlas through the command line: scans and label maps larger than the template."""

import json

import nibabel as nib
import numpy as np
import pytest

from jaxmedgen.data.phantoms.population import Population

VALUES = np.array([0, 3, 17, 5])
"""Numbers in the files of background, brain, ventricle and lesion."""
AFFINE = np.diag([-1.0, 1.0, 1.0, 1.0])
AFFINE[:3, 3] = 40, -12, 3
SMALL = [
    "--config.data.spacing=1,1",
    "--config.steps=2",
    "--config.model.map_rounds=1",
    "--config.model.rounds=1",
    "--config.model.sampling.map_steps=2",
    "--config.model.sampling.chains=1",
    "--config.model.sampling.draws=4",
    "--config.model.sampling.thinning=1",
    "--config.model.sampling.leapfrog_steps=1",
    "--config.model.sampling.mass=prior",
    "--config.model.velocity.squarings=2",
    "--config.eval_every=0",
    "--config.batch_size=3",
    "--config.data.train=3",
    "--config.data.validation=0",
    "--config.parallel.data=1",
]


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Three subjects of 32^2 in the middle of single slices of 48^2, to be cut to 32^2."""
    folder, source = tmp_path_factory.mktemp("data"), Population(3, (32, 32))
    for number in range(3):
        record = source[number]
        image = np.pad(record["image"][..., 0], 8, mode="edge")
        label = VALUES[np.pad(record["label"], 8)]
        for kind, array in (("images", image), ("labels", label.astype(np.int16))):
            path = folder / kind / f"s{number}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array[:, :, None], AFFINE), path)
    return folder


def check(folder, scans):
    """The atlas of three subjects fits each far better than one off the centre would."""
    cases = json.loads((folder / "evaluation.json").read_text())["cases"]
    assert len(cases) == 3
    dice = [np.nanmean([c["dice"] for c in case.values()]) for case in cases.values()]
    assert min(dice) > 0.35
    for number in range(3):
        written = nib.load(folder / f"s{number}.nii.gz")
        assert written.shape == (48, 48, 1)
        np.testing.assert_allclose(written.affine, AFFINE)


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_an_atlas_segments_and_samples(run, scans, tmp_path, kind):
    work, data = tmp_path / "run", scans if kind == "images" else scans / "labels"
    arguments = ["--data", data, "--config.data.shape=(32, 32)", *SMALL, "--quiet"]
    config = "paddit:cpu"
    if kind == "labels":
        config += ",data=label_maps,field=bspline"
        arguments += ["--config.data.label_map=", "--config.data.crop_to_nonzero=False"]
        arguments += ["--config.data.target_of=(0, 1, 1, 2)"]
        arguments += ["--config.data.target_names=('background', 'brain', 'ventricle')"]
    arguments += ["--config.data.test=0"]
    status, _, err = run("train", "--config", config, "--workdir", work, *arguments)
    assert status == 0, err
    template = nib.load(next(iter(sorted((work / "atlas").glob("template*.nii.gz")))))
    np.testing.assert_allclose(template.affine[0], [1, 0, 0, 1], atol=1e-5)
    inputs = ["--input", scans / kind, "--reference", scans / "labels"]
    inputs += ["--output", tmp_path / "out"]
    status, _, err = run("predict", "--workdir", work, *inputs)
    assert status == 0, err
    check(tmp_path / "out", scans)
    status, _, err = run("sample", "--workdir", work, "--output", tmp_path / "s", "--count", "2")
    assert status == 0, err
    made = nib.load(tmp_path / "s" / "labels" / "sample_00001.nii.gz")
    np.testing.assert_allclose(made.affine, template.affine, atol=1e-5)
    assert len(np.unique(np.asarray(made.dataobj))) > 2
