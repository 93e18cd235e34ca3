"""Affines of sources' subjects: a landmark is at the same place in mm before and after."""

import dataclasses

import jax.numpy as jnp
import nibabel as nib
import numpy as np
import pytest
from rich.console import Console
from scipy.spatial.transform import Rotation

from jaxmedgen.data.build import Sources
from jaxmedgen.data.folders import FolderSource
from jaxmedgen.data.grid_affines import affine_of, common_affine, upright
from jaxmedgen.data.preprocess import Preprocessing
from jaxmedgen.data.sources import in_memory, relabel, subset
from jaxmedgen.experiments.evaluation import CaseResult
from jaxmedgen.experiments.groupwise import evaluate_alignment
from jaxmedgen.experiments.runs import save_case
from jaxmedgen.experiments.samples import write_deformed

SHAPE = (16, 13, 20)
CENTRES = ((6, 5, 9), (8, 7, 11))
NEAR = 0.75
"""mm: half a voxel, by which resampled borders move."""


def oblique(number):
    """Voxel axes near L, I, A, turned by 10 degrees, with an origin off the centre."""
    axes = np.array([[-1, 0, 0], [0, 0, 1], [0, -1, 0]], float)  # columns: L, I, A
    turn = Rotation.from_euler("zyx", [10, 5, -8], degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn @ axes @ np.diag([1.0, 2.0, 1.5])
    affine[:3, 3] = 30 + number, -20, 11
    return affine


@pytest.fixture
def folder(tmp_path):
    """Two scans with a box of label 1 round a known voxel; other voxels have noise."""
    rng = np.random.default_rng(0)
    for number, centre in enumerate(CENTRES):
        label = np.zeros(SHAPE, np.uint8)
        label[tuple(slice(c - 2, c + 3) for c in centre)] = 1
        image = rng.normal(10, 0.1, SHAPE) + 5 * label
        for kind, array in (("images", image.astype(np.float32)), ("labels", label)):
            path = tmp_path / "data" / kind / f"s{number}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, oblique(number)), path)
    return tmp_path / "data"


def source_of(folder):
    return FolderSource(folder, Preprocessing((1.5, 1.5, 1.5), (20, 18, 22)))


def centre_in_mm(label, affine):
    return affine[:3, :3] @ np.argwhere(label).mean(0) + affine[:3, 3]


def expected(number):
    affine = oblique(number)
    return affine[:3, :3] @ np.array(CENTRES[number], float) + affine[:3, 3]


def test_views_of_a_folder_keep_the_place_in_mm(folder):
    source = source_of(folder)
    view = relabel(in_memory(subset(source, (1, 0))), (0, 1), ("background", "box"))
    for position, number in enumerate((1, 0)):
        affine = affine_of(view, position)
        found = centre_in_mm(view[position]["label"], affine)
        np.testing.assert_allclose(found, expected(number), atol=NEAR)
        np.testing.assert_allclose(nib.affines.voxel_sizes(affine), 1.5, atol=1e-5)
    np.testing.assert_array_equal(common_affine(subset(source, (1,))), affine_of(source, 1))
    np.testing.assert_array_equal(common_affine(source), upright((1.5, 1.5, 1.5)))


@pytest.mark.parametrize("axis", range(3))
def test_a_single_slice_keeps_its_place(tmp_path, axis):
    shape = [12, 14, 10]
    shape[axis] = 1
    label = np.zeros(shape, np.uint8)
    box = [slice(3, 6)] * 3
    box[axis] = slice(0, 1)
    label[tuple(box)] = 1
    (tmp_path / "labels").mkdir()
    nib.save(nib.Nifti1Image(label, oblique(0)), tmp_path / "labels" / "a.nii.gz")
    source = FolderSource(tmp_path / "labels", Preprocessing("native"), contents="labels")
    flat = source[0]["label"]
    found = centre_in_mm(flat[..., None], affine_of(source, 0))
    np.testing.assert_allclose(found, centre_in_mm(label, oblique(0)), atol=1e-4)


@dataclasses.dataclass(frozen=True)
class Still:
    """A model of deformations that leaves everything where it is."""

    def align(self, variables, image):
        zero = jnp.zeros((*image.shape[:-1], image.ndim - 2))
        return zero, zero

    def deform(self, variables, keys, image, label):
        return image, label


def place_in(path):
    file = nib.load(path)
    return centre_in_mm(np.asarray(file.dataobj) > 0, file.affine)


def test_registered_and_deformed_subjects_stay_in_their_scanner_space(folder, tmp_path):
    source = source_of(folder)
    evaluate_alignment(Still(), {}, source, tmp_path, Console(quiet=True), step=0)
    for number in range(2):
        path = tmp_path / "aligned" / "labels" / f"s{number}.nii.gz"
        np.testing.assert_allclose(place_in(path), expected(number), atol=NEAR)
        field = nib.load(tmp_path / "aligned" / "fields" / f"s{number}.nii.gz")
        np.testing.assert_allclose(field.affine, affine_of(source, number), atol=1e-4)
    nobody = subset(source, ())
    sources = Sources(source, nobody, nobody, source.info)
    for layout, labels in (("plain", "labels"), ("nnunet", "labelsTr")):
        write_deformed(sources, Still(), {}, tmp_path / layout, 2, 0, layout)
        found = [place_in(tmp_path / layout / labels / f"sample_0000{i}.nii.gz") for i in range(2)]
        found.sort(key=lambda place: place[0] - expected(0)[0])
        wanted = sorted((expected(0), expected(1)), key=lambda place: place[0])
        np.testing.assert_allclose(found, wanted, atol=NEAR)


def test_a_prediction_is_saved_where_its_scan_lies(folder, tmp_path):
    source = source_of(folder)
    record = source[0]
    case = CaseResult("s0", {}, record["image"], record["label"], record["label"])
    save_case(case, source.info.spacing, tmp_path, affine_of(source, 0))
    np.testing.assert_allclose(place_in(tmp_path / "s0.nii.gz"), expected(0), atol=NEAR)
