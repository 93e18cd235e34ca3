"""Folders of ED and ES label maps with classes: what is read, and what each mistake is told."""

import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy import ndimage
from scipy.spatial.transform import Rotation

from jaxmedgen.data.build import build_sources
from jaxmedgen.data.nifti import write_volume
from jaxmedgen.data.phantoms.left_ventricle import LeftVentricles
from jaxmedgen.data.rigid import rigid_alignment
from jaxmedgen.data.shape_folder import Grid, ShapeFolder
from jaxmedgen.data.untrusted import DataError

SIZE = 24
HEARTS = LeftVentricles(6, (SIZE,) * 3)
SPACING = HEARTS.info.spacing[0]
AFFINE = np.diag([SPACING] * 3 + [1.0])


@pytest.fixture
def folder(tmp_path):
    """Six hearts, muscle 2 and something else 1, in a larger field of view, one left out."""
    rows = ["case,class"]
    for number in range(6):
        record = HEARTS[number]
        for c, phase in enumerate(("ED", "ES")):
            label = 2 * np.pad(record["image"][..., c], ((2, 6), (4, 4), (5, 3))).astype(np.uint8)
            label[0, 0] = 1
            write_volume(tmp_path / f"h{number}_{phase}.nii.gz", label, AFFINE)
        rows.append(f"h{number},{('healthy', 'HCM', '-')[2 if number == 5 else number % 2]}")
    (tmp_path / "classes.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "muscle.json").write_text('{"muscle": [2]}')
    return tmp_path


def data_of(folder, **changes):
    settings = {
        "kind": "folder", "folder": str(folder), "label_map": str(folder / "muscle.json"),
        "spacing": "native", "shape": (SIZE,) * 3, "train": 0, "validation": 0, "test": 2,
        "seed": 0, "target_names": ("healthy", "HCM"), "target_of": (), "train_contrast": "",
        "template": "",
    }  # fmt: skip
    return ConfigDict(settings | changes)


def test_hearts_come_back_in_a_box_about_their_own_middle(folder):
    sources = build_sources(data_of(folder))
    assert sources.info.channel_names == ("ED", "ES")
    np.testing.assert_allclose(sources.info.spacing, SPACING, rtol=1e-6)
    assert len(sources.train) == 3 and sorted(sources.test[k]["target"] for k in (0, 1)) == [0, 1]
    names = (*sources.train.info.case_names, *sources.test.info.case_names)
    assert len(set(names)) == 5 and "h5" not in names
    for source in (sources.train, sources.test):
        for index, name in enumerate(source.info.case_names):
            found, expected = source[index], HEARTS[int(name[1])]
            assert found["target"] == expected["target"]
            images = found["image"], expected["image"]
            middle = ndimage.center_of_mass(images[0][..., 0])
            np.testing.assert_allclose(middle, (SIZE - 1) / 2, atol=0.5)
            # ES moved by the same vector as ED: its place relative to ED is kept.
            apart = [
                np.subtract(*(ndimage.center_of_mass(x[..., c]) for c in (0, 1))) for x in images
            ]
            np.testing.assert_allclose(*apart, atol=0.35)
            np.testing.assert_allclose(images[0].sum(), images[1].sum(), rtol=0.1)
    # Where the box lies in the files' space: its middle is the middle of the ED mask.
    plain = ShapeFolder(folder, Grid((SIZE,) * 3, SPACING), label_map={2: 1}, labelled=False)
    assert len(plain) == 6 and set(plain[0]) == {"image"}
    place = np.asarray(ndimage.center_of_mass(HEARTS[5]["image"][..., 0]))
    expected = SPACING * (place + np.asarray((2, 4, 5)))
    middle = plain.affine_of(5) @ [*[(SIZE - 1) / 2] * 3, 1]
    np.testing.assert_allclose(middle[:3], expected, atol=1e-3)


def test_turned_hearts_are_aligned_to_a_template(folder):
    upright = HEARTS[1]["image"][..., 0] > 0.5
    turn = Rotation.from_euler("xyz", (12, -8, 10), degrees=True).as_matrix()
    middle = np.full(3, (SIZE - 1) / 2)
    # Shows at x what the upright heart has at turn^T x + 1 voxel.
    turned = ndimage.affine_transform(
        upright.astype(float), turn.T, middle + 1 - turn.T @ middle, order=1
    )
    rotation, shift = rigid_alignment(turned > 0.5, upright, (SPACING,) * 3)
    error = Rotation.from_matrix(rotation.T @ turn).magnitude()
    assert np.rad2deg(error) < 3
    np.testing.assert_allclose(shift, -turn @ np.full(3, SPACING), atol=0.3 * SPACING)
    for phase in ("ED", "ES"):
        write_volume(folder / f"h0_{phase}.nii.gz", 2 * (turned > 0.5).astype(np.uint8), AFFINE)
    template = folder / "h1_ED.nii.gz"
    found = {}
    for path in (None, template):
        grid = Grid((SIZE,) * 3, SPACING, path)
        hearts = ShapeFolder(folder, grid, ("healthy", "HCM"), {2: 1})
        pair = [hearts[k]["image"][..., 0] for k in (0, 1)]
        found[path] = 2 * (pair[0] * pair[1]).sum() / (pair[0].sum() + pair[1].sum())
    assert found[template] > found[None] + 0.1 and found[template] > 0.8


@pytest.mark.parametrize(("change", "message"), [
    ("h2,", "case 'h2' has class ''; give one of 0, 1, healthy, HCM, -"),
    ("h2,7", "case 'h2' has class '7'"),
    ("", "has no class for case 'h2'; add a row"),
    ("h2,0\nh2,1", "has two rows of case 'h2'"),
    ("h2,0\nh9,1", "no file of case 'h9'; remove the row"),
])  # fmt: skip
def test_tables_with_mistakes(folder, change, message):
    table = folder / "classes.csv"
    table.write_text(table.read_text().replace("h2,healthy", change))
    with pytest.raises(DataError, match=f"classes.csv: .*{message}") as raised:
        build_sources(data_of(folder))
    assert "\n" not in str(raised.value)


def test_files_with_mistakes(folder):
    def fails(message, **changes):
        with pytest.raises(ValueError, match=message) as raised:
            build_sources(data_of(folder, **changes))
        assert "\n" not in str(raised.value)

    fails("h0_ED.nii.gz: .* % of the mask lie outside the box", shape=(8, 8, 8))
    fails("data.test=3: give a multiple of the 2 classes", test=3)
    fails("2 subjects of class HCM left where .* take 2", test=4)
    fails("data.spacing='fit'", spacing="fit")
    es = folder / "h3_ES.nii.gz"
    kept = es.read_bytes()
    write_volume(es, np.zeros((8, 8, 8), np.uint8), AFFINE)
    fails("h3_ES.nii.gz: the mask is empty")
    es.unlink()
    fails("h3_ED.nii.gz: case 'h3' has no ES file; add h3_ES.nii.gz")
    es.write_bytes(kept)
    ed = folder / "h3_ED.nii.gz"
    ed.unlink()
    fails("h3_ES.nii.gz: case 'h3' has no ED file")
    write_volume(ed, np.full((9, 9, 3), 2, np.uint8), np.diag([1, 1, 8, 1.0]))
    fails("voxels of 1 x 1 x 8 mm.*set data.spacing")
