"""Folders of images whose label maps are missing, or under another name."""

import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.folders import FolderSource, check_folder
from jaxmedgen.data.preprocess import Preprocessing
from jaxmedgen.data.untrusted import DataError
from tests.data.making_folders import save, scan, seg

NATIVE = Preprocessing(spacing="native", normalization="none")


@pytest.mark.parametrize(
    ("images", "others", "message"),
    [
        ("images", ("masks",), "no labels/ beside images/; rename masks/ to labels/ if it holds"),
        ("imagesTr", ("Labels",), "no labelsTr/ beside imagesTr/; rename Labels/ to labelsTr/"),
        ("images", ("a", "b"), r"no labels/ beside images/; put .* there, .* \(there are a/, b/\)"),
        (
            "images",
            (),
            "no labels/ beside images/; put the label maps there, named like the images",
        ),
        (".", (), "holds images and no label maps; put the scans in images/"),
    ],
)
def test_images_without_label_maps_are_refused_where_these_are_needed(
    tmp_path, images, others, message
):
    for number in range(2):
        save(tmp_path / images / f"s{number}_0000.nii.gz", scan(number))
        for other in others:
            save(tmp_path / other / f"s{number}.nii.gz", seg(number))
    for read in (check_folder, lambda *args, **more: FolderSource(*args, NATIVE, **more)):
        with pytest.raises(DataError, match=f"{tmp_path}: {message}") as caught:
            read(tmp_path, need_labels=True)
        assert "\n" not in str(caught.value)
    assert check_folder(tmp_path) == []  # models of images need none
    assert sorted(FolderSource(tmp_path, NATIVE)[0]) == ["image", "spacing"]
    label = "labels" if images == "." else images.replace("images", "labels")
    if images != ".":
        for number in range(2):
            save(tmp_path / label / f"s{number}.nii.gz", seg(number))
        assert "label" in FolderSource(tmp_path, NATIVE, need_labels=True)[0]


def test_configurations_say_whether_they_need_label_maps(tmp_path):
    for number in range(4):
        save(tmp_path / f"images/s{number}.nii.gz", scan(number))
        save(tmp_path / f"masks/s{number}.nii.gz", seg(number))
    settings = {
        "data.kind": "folder",
        "data.folder": str(tmp_path),
        "data.shape": "()",
        "data.spacing": "native",
        "data.train": "0",
        "data.validation": "1",
        "data.test": "1",
    }
    config = load_config("unet:cpu", settings)
    with pytest.raises(DataError, match="rename masks/ to labels/"):
        build_sources(config.data)
    config = load_config("unet:cpu", settings | {"data.images_only": "True"})
    assert "label" not in build_sources(config.data).train[0]
    older = config.copy_and_resolve_references().unlock()
    del older.data.images_only, older.data.empty_labels
    assert "label" not in build_sources(older.data).train[0]  # as before
    deforming = load_config("it_vae:cpu", settings)  # needs none
    assert "label" not in build_sources(deforming.data).train[0]
