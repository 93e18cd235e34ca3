import json
import os

import nibabel as nib
import numpy as np
import pytest

from jaxmedgen.data import preprocess
from jaxmedgen.data.folders import FolderSource, check_folder, discover, load_case
from jaxmedgen.data.nifti import write_like
from jaxmedgen.data.pipeline import training_stream
from jaxmedgen.data.preprocess import Preprocessing
from jaxmedgen.data.sources import Source
from jaxmedgen.data.untrusted import DataError
from tests.data.making_folders import SHAPE, make_nnunet, make_pairs, save, scan, seg

NATIVE = Preprocessing(spacing="native")


def test_nnunet_folder(tmp_path):
    make_nnunet(tmp_path)
    save(tmp_path / "imagesTs/t_0000.nii.gz", scan(7))
    save(tmp_path / "imagesTs/t_0001.nii.gz", scan(8))
    source = FolderSource(tmp_path, NATIVE)
    assert isinstance(source, Source) and source.layout.kind == "nnunet" and len(source) == 3
    assert source.info.class_names == ("background", "liver", "tumour")
    assert source.info.channel_names == ("MR0", "MR1")
    assert source.info.case_names == ("a", "b", "c")
    assert source.info.spacing == (1.0, 1.0, 2.0)
    record = source[1]
    assert record["image"].shape == (*SHAPE, 2) and record["image"].dtype == np.float32
    np.testing.assert_array_equal(record["label"], seg(1))
    expected = (scan(11) - scan(11).mean()) / scan(11).std()
    np.testing.assert_allclose(record["image"][..., 1], expected, atol=1e-4)
    test = FolderSource(tmp_path, source.preprocessing, split="test")
    assert test.info.case_names == ("t",) and sorted(test[0]) == ["image", "spacing"]
    assert source.load(1)[2].name == "b"


def test_nnunet_dataset_table_and_old_labels(tmp_path):
    make_nnunet(tmp_path, cases=("a", "b"), channels=1)
    table = {"x": {"images": ["imagesTr/b_0000.nii.gz"], "label": "labelsTr/b.nii.gz"}}
    content = json.loads((tmp_path / "dataset.json").read_text())
    content["dataset"] = table
    content["labels"] = {"0": "background", "1": "liver", "2": "tumour"}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    source = FolderSource(tmp_path, NATIVE)
    assert source.info.case_names == ("x",)
    assert source.info.class_names == ("background", "liver", "tumour")
    np.testing.assert_array_equal(source[0]["label"], seg(1))


def test_plain_pairs_with_channels_and_sparse_values(tmp_path):
    for i, name in enumerate(["p", "q"]):
        for c in range(2):
            save(tmp_path / f"images/{name}_{c:04d}.nii.gz", scan(10 * i + c))
        save(tmp_path / f"labels/{name}.nii.gz", seg(i, (0, 2, 41)))
    source = FolderSource(tmp_path, NATIVE)
    assert source.layout.kind == "pairs" and source[0]["image"].shape == (*SHAPE, 2)
    assert source.info.class_names == ("background", "label 2", "label 41")
    assert source.label_values == (0, 2, 41)
    np.testing.assert_array_equal(np.take([0, 2, 41], source[1]["label"]), seg(1, (0, 2, 41)))


def test_numbers_in_names_are_not_always_channels(tmp_path):
    make_pairs(tmp_path / "labelled", cases=("scan_0000", "scan_0001"))
    assert [c.name for c in discover(tmp_path / "labelled").cases] == ["scan_0000", "scan_0001"]
    for i in range(10):
        save(tmp_path / f"series/case_{i:04d}.nii.gz", scan(i))
    assert len(discover(tmp_path / "series", contents="images").cases) == 10
    assert discover(tmp_path / "series").kind == "labels"
    save(tmp_path / "two/a_0000.nii.gz", scan(0))
    save(tmp_path / "two/a_0001.nii.gz", scan(1))
    layout = discover(tmp_path / "two")
    assert layout.kind == "images" and len(layout.cases[0].images) == 2


def test_label_maps_alone(tmp_path):
    for i in range(2):
        save(tmp_path / f"map{i}.nii.gz", seg(i, (0, 2, 41, 17)))
    source = FolderSource(
        tmp_path, NATIVE, {2: 1, 41: 1, 17: 2}, ("background", "white", "hippocampus")
    )
    assert source.layout.kind == "labels" and source.info.channel_names == ()
    assert sorted(source[0]) == ["label", "spacing"] and source.label_values == (0, 2, 17)
    np.testing.assert_array_equal(source[0]["label"] == 1, np.isin(seg(0, (0, 2, 41, 17)), [2, 41]))
    nested = tmp_path / "other"
    save(nested / "labels/a.nii.gz", seg(0))
    assert discover(nested).kind == "labels" and len(discover(nested).cases) == 1


def test_few_labels_among_many_images(tmp_path):
    make_pairs(tmp_path)
    save(tmp_path / "images/c.nii.gz", scan(5))
    with pytest.raises(DataError, match=r"c.nii.gz: has no label labels/c"):
        FolderSource(tmp_path, NATIVE)
    source = FolderSource(tmp_path, NATIVE, require_labels=False)
    assert len(source) == 3 and sorted(source[2]) == ["image", "spacing"]


def test_every_broken_file_is_listed_at_once(tmp_path):
    names = [f"c{i}" for i in range(10)]
    folder = make_nnunet(tmp_path, cases=names, channels=1)
    image = {n: folder / f"imagesTr/{n}_0000.nii.gz" for n in names}
    label = {n: folder / f"labelsTr/{n}.nii.gz" for n in names}
    image["c0"].write_bytes(image["c0"].read_bytes()[:-100])
    nan = scan(0)
    nan[0, 0, 0] = np.nan
    save(image["c1"], nan)
    save(label["c2"], seg(0)[:-1])
    save(label["c3"], seg(0), origin=(5.0, 0.0, 0.0))
    save(label["c4"], seg(0, (0, 1, 7)))
    save(label["c5"], np.zeros(SHAPE, np.int32))
    save(image["c6"], np.full(SHAPE, 3.0))
    label["c7"].unlink()
    image["c8"].unlink()
    save(folder / "imagesTr/stray_0003.nii.gz", scan(0))
    expected = {
        image["c0"]: "truncated or damaged",
        image["c1"]: "1 voxels are NaN",
        label["c2"]: "shape (7, 9, 6) differs from (8, 9, 6)",
        label["c3"]: "lies up to 5 mm away",
        label["c4"]: "label values [7] are not in dataset.json",
        label["c5"]: "holds only background",
        image["c6"]: "every voxel is 3",
        label["c7"]: "is missing; add the label",
        image["c8"]: "is missing; every case needs each channel",
        folder / "imagesTr/stray_0003.nii.gz": "is no channel",
    }
    problems = check_folder(folder)
    for file, reason in expected.items():
        assert any(p.file == file and reason in p.reason for p in problems), (file, problems)
    assert not any("c9" in str(p.file) for p in problems)
    with pytest.raises(DataError) as caught:
        FolderSource(folder, NATIVE)
    for file, reason in expected.items():
        line = next(li for li in str(caught.value).splitlines() if str(file) in li)
        assert reason in line
    assert all("; " in li for li in str(caught.value).splitlines()[1:])


def test_odd_ones_out_and_orphans(tmp_path):
    make_pairs(tmp_path, cases=("a", "b", "c"))
    save(tmp_path / "images/d.nii.gz", np.stack([scan(0)] * 2, -1))
    save(tmp_path / "labels/d.nii.gz", seg(0))
    save(tmp_path / "labels/orphan.nii.gz", seg(0))
    save(tmp_path / "images/a.nii", scan(0))
    text = "\n".join(map(str, check_folder(tmp_path)))
    assert "d.nii.gz: has 2 image channels, most have 1" in text
    assert "orphan.nii.gz: has no image" in text
    assert "another file has the same name" in text


def test_empty_labels_can_be_allowed(tmp_path):
    make_pairs(tmp_path)
    save(tmp_path / "labels/a.nii.gz", np.zeros(SHAPE, np.int32))
    (told,) = check_folder(tmp_path)
    setting = "leave it out, or set --config.data.empty_labels=True to keep such subjects"
    assert told.reason == f"holds only background; {setting}"
    assert check_folder(tmp_path, allow_empty_labels=True) == []
    assert not FolderSource(tmp_path, NATIVE, allow_empty_labels=True)[0]["label"].any()
    problems = check_folder(make_pairs(tmp_path), label_map={9: 1})
    assert [p.reason[:21] for p in problems] == ["holds only background"] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channel_names": {}}, "channel_names is missing"),
        ({"channel_names": {"1": "a"}}, "not 0, 1"),
        ({"labels": {}}, "labels is missing"),
        ({"labels": {"background": 1, "a": 2}}, "background 0"),
        ({"labels": {"background": 0, "a": "x"}}, "not numbers"),
        ({"labels": {"background": 0, "whole": [1, 2]}}, "regions"),
        ({"labels": {"background": 0, "a": 1, "ignore": 2}}, "ignore"),
        ({"file_ending": ".png"}, "cannot be read"),
        ({"dataset": {"a": {}}}, "lacks images or label"),
    ],
)
def test_bad_dataset_json_is_explained(tmp_path, change, message):
    make_nnunet(tmp_path, channels=1)
    content = json.loads((tmp_path / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps({**content, **change}))
    with pytest.raises(DataError, match=message) as caught:
        FolderSource(tmp_path, NATIVE)
    assert "dataset.json" in str(caught.value) and "\n" not in str(caught.value)


def test_regions_are_fine_with_a_label_map(tmp_path):
    make_nnunet(tmp_path, labels={"background": 0, "whole": [1, 2], "core": [2]})
    source = FolderSource(tmp_path, NATIVE, {1: 1, 2: 2}, ("background", "oedema", "core"))
    np.testing.assert_array_equal(source[0]["label"], seg(0))


def test_unusable_folders_are_explained(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        discover(tmp_path / "none")
    with pytest.raises(DataError, match="holds no NIfTI files"):
        discover(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="holds no NIfTI files"):
        discover(tmp_path)
    (tmp_path / "dataset.json").write_text("[1")
    with pytest.raises(DataError, match="cannot be read"):
        discover(tmp_path)
    (tmp_path / "imagesTr").mkdir()
    labels = {"background": 0, "a": 1}
    (tmp_path / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "MR"}, "labels": labels})
    )
    with pytest.raises(DataError, match=r"imagesTr/ holds no .nii.gz files"):
        FolderSource(tmp_path)
    with pytest.raises(ValueError, match="split 'val'"):
        discover(tmp_path, split="val")


def test_median_spacing_and_ct_statistics_are_fitted(tmp_path):
    for i, spacing in enumerate([(1.0, 1.0, 2.0), (1.0, 1.0, 3.0), (2.0, 1.0, 3.0)]):
        save(tmp_path / f"images/{i}.nii.gz", scan(i), spacing)
        save(tmp_path / f"labels/{i}.nii.gz", seg(i), spacing)
    source = FolderSource(tmp_path, Preprocessing(normalization="ct"))
    assert source.preprocessing.spacing == (1.0, 1.0, 3.0) == source.info.spacing
    foreground = np.concatenate([scan(i)[seg(i) > 0] for i in range(3)])
    np.testing.assert_allclose(
        source.preprocessing.ct_statistics[0],
        [*np.percentile(foreground, [0.5, 99.5]), foreground.mean(), foreground.std()],
        rtol=1e-5,
    )
    assert source[0]["label"].shape == (8, 9, 4) and source[2]["label"].shape == (16, 9, 6)


def test_whole_brains_fit_a_small_shape(tmp_path):
    label = np.zeros((20, 24, 16), np.int32)
    label[5:15, 6:20, 4:12] = 2
    save(tmp_path / "a.nii.gz", label, spacing=(1.0, 1.0, 1.0))
    settings = Preprocessing(spacing="fit", shape=(7, 7, 7), crop_to_nonzero=True)
    source = FolderSource(tmp_path, settings)
    assert source.info.spacing == (2.0, 2.0, 2.0)
    assert source[0]["label"].shape == (7, 7, 7) and source[0]["label"].sum() == 5 * 7 * 4


def test_cache_is_reused_and_follows_files_and_settings(tmp_path, monkeypatch):
    folder, cache = make_pairs(tmp_path / "data"), tmp_path / "cache"
    first = FolderSource(folder, NATIVE, cache_folder=cache)
    image = np.array(first[0]["image"])
    files = sorted(cache.iterdir())
    stamp = [f.stat().st_mtime_ns for f in files]

    def forbidden(*arguments, **settings):
        raise AssertionError("read again")

    with monkeypatch.context() as patch:
        patch.setattr("jaxmedgen.data.checks.read_volume", forbidden)
        again = FolderSource(folder, NATIVE, cache_folder=cache)
        np.testing.assert_array_equal(again[0]["image"], image)
    assert [f.stat().st_mtime_ns for f in files] == stamp
    other = FolderSource(
        folder, Preprocessing("native", normalization="minmax"), cache_folder=cache
    )
    assert other[0]["image"].max() == 1
    save(folder / "images/a.nii.gz", scan(77))
    os.utime(folder / "images/a.nii.gz", ns=(1, 1))
    changed = FolderSource(folder, NATIVE, cache_folder=cache)
    assert not np.array_equal(changed[0]["image"], image)


def test_training_on_a_folder_and_prediction_back_onto_its_grid(tmp_path):
    folder = make_pairs(tmp_path, cases=("a", "b", "c"))
    source = FolderSource(folder, Preprocessing(spacing=(1.0, 1.0, 1.0)))
    stream = training_stream(source, batch_size=2, seed=0, patch_size=(6, 6, 6))
    batch = next(stream)
    assert batch["image"].shape == (2, 6, 6, 6, 1) and batch["label"].shape == (2, 6, 6, 6)
    record, grid, read = load_case(source.layout.cases[0], source.preprocessing, source.label_map)
    write_like(
        tmp_path / "out.nii.gz", preprocess.invert_label(record["label"], grid), read.reference
    )
    before, after = nib.load(folder / "images/a.nii.gz"), nib.load(tmp_path / "out.nii.gz")
    assert before.shape == after.shape
    np.testing.assert_array_equal(before.affine, after.affine)


def test_preprocessing_errors_name_the_file(tmp_path):
    folder = make_pairs(tmp_path)
    source = FolderSource(folder, Preprocessing(spacing="native", normalization=("zscore", "none")))
    with pytest.raises(DataError, match=r"a.nii.gz: 2 normalizations for 1 image channels"):
        source[0]


REAL = os.environ.get("JAXMEDGEN_DATA")


@pytest.mark.skipif(not REAL, reason="JAXMEDGEN_DATA names no folder of real label maps")
def test_real_label_maps():
    source = FolderSource(REAL, Preprocessing(shape=(32, 32, 32)), contents="labels")
    assert source[0]["label"].shape == (32, 32, 32)
    assert source.info.num_classes > 1
