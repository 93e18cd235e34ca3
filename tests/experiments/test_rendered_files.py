"""Label files made into images of several vendors: paired, on the files' grids, with a manifest."""

import dataclasses
import json
import pathlib

import jax.numpy as jnp
import nibabel as nib
import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.preprocess import Preprocessing
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.experiments.rendered_files import render_files
from jaxmedgen.experiments.runs import TrainedRun


@dataclasses.dataclass(frozen=True)
class TwoVendors:
    """Blood is bright in A and dark in B."""

    style_names: tuple[str, ...] = ("A", "B")

    def players(self):
        return {}

    def init(self, key, batch):
        raise AssertionError("nothing is trained")

    def objectives(self):
        return ()

    def prepare(self, batch, keys):
        return batch

    def sample_style(self, variables, keys, label, style):
        sign = 1.0 if style == "A" else -1.0
        return sign * label[..., None].astype(jnp.float32), label


class Untrained(TrainedRun):
    """A run whose system needs no weights."""

    def variables(self, kind="last"):
        return {}, 0


def test_vendors_give_paired_images_of_the_same_labels(tmp_path):
    folder, affine = tmp_path / "labels", np.diag([2.0, 2.0, 8.0, 1.0])
    folder.mkdir()
    label = np.random.default_rng(0).integers(0, 3, (6, 7, 4)).astype(np.uint8)
    for name in ("first", "second"):
        nib.save(nib.Nifti1Image(label, affine), folder / f"{name}.nii.gz")
    info = DatasetInfo(("background", "blood", "muscle"), ("image",), (2.0, 2.0), ())
    config = load_config("cardiac_synthesis:cpu,arm=vendor")
    run = Untrained(pathlib.Path("work"), config, info, Preprocessing(), TwoVendors())
    made = tmp_path / "made"
    assert render_files(run, folder, made, vendors=("A", "B")) == 4
    for name in ("first", "second"):
        images = [nib.load(made / "images" / f"{name}_{v}.nii.gz") for v in "AB"]
        labels = [nib.load(made / "labels" / f"{name}_{v}.nii.gz") for v in "AB"]
        np.testing.assert_array_equal(images[0].get_fdata(), label)
        np.testing.assert_array_equal(images[1].get_fdata(), -images[0].get_fdata())
        for written in labels:
            np.testing.assert_array_equal(written.get_fdata(), label)
            np.testing.assert_allclose(written.affine, affine)
    entries = json.loads((made / "manifest.json").read_text())["images"]
    assert [(e["name"], e["subject"], e["style"]) for e in entries] == [
        (f"{name}_{v}", name, v) for name in ("first", "second") for v in "AB"
    ]
    assert render_files(run, folder, tmp_path / "one", vendors=("B",)) == 2
    assert (tmp_path / "one" / "images" / "first.nii.gz").is_file()
    with pytest.raises(ValueError, match="--vendor C: its styles are A, B"):
        render_files(run, folder, made, vendors=("A", "C"))
