import dataclasses

import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.phantoms.lesion_images import LesionImages, Shift

ALL = Shift(1.0, 1.0, 1.0)


@pytest.mark.parametrize("shape", [(64, 64), (24, 24, 24)])
def test_images_are_functions_of_their_number(shape):
    source = LesionImages(3, shape, seed=5, shift=ALL)
    image, label = (source[2][name] for name in ("image", "label"))
    assert image.shape == (*shape, 1) and image.dtype == np.float32
    assert label.shape == shape and set(np.unique(label)) == {0, 1}
    assert image.mean() == pytest.approx(0, abs=1e-4) and image.std() == pytest.approx(1, abs=1e-4)
    other = LesionImages(1, shape, seed=5, start=2, shift=ALL)
    np.testing.assert_array_equal(other[0]["image"], image)
    assert not np.array_equal(source[1]["image"], image)


def test_lesions_and_nuclei_are_alike_but_for_their_place():
    for i in range(10):
        record = LesionImages(10, seed=1)[i]
        image, lesion = record["image"][..., 0], record["label"] == 1
        rows, columns = np.indices((64, 64))
        central = (np.hypot(rows - 31.5, columns - 31.5) < 14) & ~lesion
        bright = image > np.median(image[lesion]) - 0.3
        assert (bright & central).sum() > 10, "nuclei as bright as lesions"


def test_each_shift_changes_its_own_property():
    def spread(shift):
        source = LesionImages(30, seed=2, shift=shift)
        extent, darkest = [], []
        for i in range(30):
            image = source[i]["image"][..., 0]
            head = image > image[0, 0] + 0.6
            extent.append(np.ptp(np.flatnonzero(head.any(1))))
            darkest.append(np.median(image[head]))
        return np.std(extent), np.std(darkest)

    still, posed = spread(Shift()), spread(Shift(pose=1.0))
    assert posed[0] > 2 * still[0]
    assert spread(Shift(gamma=1.0))[1] > 2 * still[1]
    moved = LesionImages(1, seed=3, shift=Shift(bias=1.0))[0]["label"]
    np.testing.assert_array_equal(moved, LesionImages(1, seed=3)[0]["label"])


def test_the_configuration_has_three_groups_of_tests():
    config = load_config(
        "augmentations", {"data.test": "2", "data.train": "6", "data.validation": "1"}
    )
    sources = build_sources(config.data)
    groups = [name.split("-")[0] for name in sources.test.info.case_names]
    assert sorted(set(groups)) == ["both", "intensity", "pose"] and len(groups) == 6
    assert len(sources.train) == 6 and sources.info.class_names == ("background", "lesion")
    names = {n for part in (sources.train, sources.test) for n in part.info.case_names}
    assert len(names) == 12


def test_small_shapes_are_refused():
    with pytest.raises(ValueError, match="at least 16 voxels"):
        LesionImages(1, (8, 8))
    assert dataclasses.asdict(ALL) == {"pose": 1.0, "gamma": 1.0, "bias": 1.0}
