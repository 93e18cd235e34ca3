"""Label files made into images of several vendors: paired, on the files' grids, with a manifest."""

import dataclasses
import json
import pathlib

import jax.numpy as jnp
import nibabel as nib
import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.layouts import discover
from jaxmedgen.data.preprocess import Preprocessing
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.experiments.label_files import write_subjects
from jaxmedgen.experiments.label_synthesis import SyntheticSubject
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


NAMES = ("background", "blood", "muscle")


def opened(system, label_map=None):
    """A run on slices of three classes."""
    info = DatasetInfo(NAMES, ("image",), (2.0, 2.0), ())
    config = load_config("cardiac_synthesis:cpu,arm=vendor")
    return Untrained(pathlib.Path("work"), config, info, Preprocessing(), system, label_map)


def written(folder, name="made"):
    return np.asarray(nib.load(folder / f"{name}.nii.gz").dataobj)


def test_vendors_give_paired_images_of_the_same_labels(tmp_path):
    folder, affine = tmp_path / "labels", np.diag([2.0, 2.0, 8.0, 1.0])
    folder.mkdir()
    label = np.random.default_rng(0).integers(0, 3, (6, 7, 4)).astype(np.uint8)
    for name in ("first", "second"):
        nib.save(nib.Nifti1Image(label, affine), folder / f"{name}.nii.gz")
    run, made = opened(TwoVendors()), tmp_path / "made"
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


class Places(TwoVendors):
    """Each voxel is the number of its slice, so that an image shows where slices were cut."""

    def sample_style(self, variables, keys, label, style):
        number = jnp.arange(label.shape[1], dtype=jnp.float32)[:, None, None]
        return jnp.broadcast_to(number, label.shape)[..., None], label


def heart(label, spacing):
    return SyntheticSubject(label, spacing, ("scan",), 0.5, "between", 0)


def test_slices_thinner_than_pixels_are_where_the_records_say(tmp_path):
    """Equalised stacks: 2.2 mm between slices of 2.5 mm pixels; the next folder says so, too."""
    label = np.random.default_rng(0).integers(0, 3, (4, 6, 5)).astype(np.uint8)
    write_subjects([heart(label, (2.2, 2.5, 2.5))], tmp_path / "hearts", class_names=NAMES)
    run, folder = opened(Places()), tmp_path / "hearts" / "labels"
    expected = np.broadcast_to(np.arange(4.0), (6, 5, 4))
    for output in (tmp_path / "once", tmp_path / "again"):
        render_files(run, folder, output, vendors=("A",))
        np.testing.assert_array_equal(written(output / "images", "subject_00000"), expected)
        folder = output / "labels"
    # A user's folder: the thickest axis, or the one that is named, also of files in another order.
    volume = np.moveaxis(label, 0, -1)
    turned = np.array([[0, 0, 2.2, 0], [2.5, 0, 0, 0], [0, 2.5, 0, 0], [0, 0, 0, 1]])
    for name, affine in (("plain", np.diag([2.5, 2.5, 2.2, 1.0])), ("turned", turned)):
        folder = tmp_path / name / "labels"
        folder.mkdir(parents=True)
        nib.save(nib.Nifti1Image(volume, affine), folder / "made.nii.gz")
        render_files(run, folder, tmp_path / name, vendors=("A",), slice_axis=2)
        np.testing.assert_array_equal(written(tmp_path / name / "images"), expected)
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        assert manifest["images"][0]["slice_axis"] == 2
    (tmp_path / "plain" / "manifest.json").unlink()
    render_files(run, tmp_path / "plain" / "labels", tmp_path / "thick", vendors=("A",))
    assert written(tmp_path / "thick" / "images")[0, 3, 0] == 3.0


def test_classes_that_were_written_here_are_not_mapped_again(tmp_path):
    """The map of the training files swaps two classes, as ACDC's does."""
    label = np.random.default_rng(0).integers(0, 3, (4, 6, 5)).astype(np.uint8)
    write_subjects([heart(label, (8.0, 2.0, 2.0))], tmp_path / "hearts", class_names=NAMES)
    run = opened(TwoVendors(), label_map={0: 0, 1: 2, 2: 1})
    folder, volume = tmp_path / "hearts" / "labels", np.moveaxis(label, 0, -1)
    for output in (tmp_path / "once", tmp_path / "again"):
        render_files(run, folder, output, vendors=("A",))
        np.testing.assert_array_equal(written(output / "images", "subject_00000"), volume)
        np.testing.assert_array_equal(written(output / "labels", "subject_00000"), volume)
        folder = output / "labels"
    (tmp_path / "hearts" / "records.json").unlink()  # now the values could be anybody's
    render_files(run, tmp_path / "hearts" / "labels", tmp_path / "mapped", vendors=("A",))
    mapped = written(tmp_path / "mapped" / "labels", "subject_00000")
    np.testing.assert_array_equal(mapped, np.array([0, 2, 1])[volume])
    # Classes of finer training labels are merged, those of the run's own names are not.
    config = run.config.copy_and_resolve_references().unlock()
    config.data.target_of = (0, 1, 2, 2)
    fine = dataclasses.replace(run, config=config)
    np.testing.assert_array_equal(fine.remap(np.arange(4), (*NAMES, "fat")), [0, 1, 2, 2])
    np.testing.assert_array_equal(fine.remap(np.arange(3), NAMES), [0, 1, 2])


def test_images_of_label_files_are_a_data_set_of_nnunet(tmp_path):
    label = np.random.default_rng(0).integers(0, 3, (4, 6, 5)).astype(np.uint8)
    write_subjects([heart(label, (8.0, 2.0, 2.0))], tmp_path / "hearts", class_names=NAMES)
    output, folder = tmp_path / "Dataset900_Hearts", tmp_path / "hearts" / "labels"
    render_files(opened(TwoVendors()), folder, output, vendors=("A", "B"), layout="nnunet")
    layout = discover(output)
    assert layout.kind == "nnunet" and not layout.problems
    assert [c.name for c in layout.cases] == ["subject_00000_A", "subject_00000_B"]
    assert layout.label_names == dict(enumerate(NAMES))
    np.testing.assert_array_equal(
        written(output / "imagesTr", "subject_00000_B_0000"), -1.0 * np.moveaxis(label, 0, -1)
    )
