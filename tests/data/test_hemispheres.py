"""Hemispheres of brains: the split, the choice of slices, the scaling, the pairs."""

import dataclasses

import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxmedgen.configuration import load_config
from jaxmedgen.data.hemispheres import (
    HemisphereSettings,
    halves,
    hemisphere_parts,
    hemisphere_subjects,
    hemispheres,
    normalised,
    patient_of_slice,
    scaled_brain,
)
from jaxmedgen.data.sources import ArraySource, DatasetInfo
from jaxmedgen.data.unpaired import Pairs


def volumes(width=9):
    """One subject: a brain nearly as large as the box, a lesion in two slices of the left."""
    rng = np.random.default_rng(0)
    image = np.zeros((width, 8, 4, 2), np.float32)
    image[1:-1, 1:-1] = rng.normal(5, 2, (width - 2, 6, 4, 2))
    label = np.zeros((width, 8, 4), np.int32)
    label[1:-1, 1:-1] = 1
    label[2:4, 2:4, 1:3] = 2
    info = DatasetInfo(("background", "brain", "lesion"), ("a", "b"), (1.0, 2.0, 3.0), ("s1",))
    return ArraySource([{"image": image, "label": label}], info)


def test_odd_widths_share_the_middle_column():
    assert halves(9) == (slice(0, 5), slice(4, 9))
    assert halves(8) == (slice(0, 4), slice(4, 8))


def test_sick_and_healthy_hemispheres_of_one_subject():
    source = volumes()
    found = hemispheres(source, HemisphereSettings())
    assert found.names == ("s1_z001_L", "s1_z002_L")
    assert {patient_of_slice(name) for name in found.names} == {"s1"}
    assert len(found.absent) == 6  # both sides of two slices, one side of the two others
    assert found.present[0]["image"].shape == (8, 5, 2)
    assert found.present[0]["label"].sum() == 4 and found.present[0]["label"].max() == 1
    record = source[0]
    inside = record["image"][1:-1, 1:-1]
    expected = (record["image"][:5, :, 1] - inside.mean()) / (5 * inside.std())
    expected[~(record["label"][:5, :, 1] > 0)] = 0
    np.testing.assert_allclose(found.present[0]["image"], expected.swapaxes(0, 1), atol=1e-5)
    none = hemispheres(source, HemisphereSettings(brain=0.9))
    assert not none.present and not none.absent
    assert len(hemispheres(source, HemisphereSettings(sick=0.5)).present) == 0


def test_channels_are_scaled_jointly_or_each():
    record = volumes()[0]
    image = record["image"] * np.array([1.0, 10.0], np.float32)
    brain = record["label"] > 0
    joint = normalised(image, brain)[brain]
    each = normalised(image, brain, channelwise=True)[brain]
    np.testing.assert_allclose([joint.mean(), joint.std()], [0, 0.2], atol=1e-4)
    np.testing.assert_allclose(each.std(0), [0.2, 0.2], rtol=1e-4)
    assert joint[:, 1].mean() > 0.1


def test_an_epoch_shows_every_image():
    found = hemispheres(volumes(), HemisphereSettings())
    pairs = Pairs(found, volumes().info)
    assert len(pairs) == 6  # two with a finding, six without
    shown = {pairs[i]["absent"].tobytes() for i in range(6)}
    assert shown == {image.tobytes() for image in found.absent}
    assert len(set(pairs.info.case_names)) == 6


def test_parts_are_of_the_subjects_they_are_given():
    """Training pairs of whose patients some keep their masks; test slices with lesions."""
    base = volumes(12)
    info = dataclasses.replace(base.info, case_names=("s1", "s2", "s3"))
    train = ArraySource([base[0]] * 3, info)
    settings = {"finding": (), "sick": 0.01, "brain": 0.25, "channelwise": False}
    settings["bias_field"] = False
    data = ConfigDict(settings | {"labelled": 0.3, "seed": 0})
    pairs, _, test = hemisphere_parts(data, (train, base, base))
    first = next(i for i in range(len(pairs)) if "_z002" in pairs.info.case_names[i])
    assert pairs[first]["place"] == np.float32(2 / 3)
    assert {float(pairs[i]["absent_place"]) for i in range(6)} == {
        float(np.float32(z / 3)) for z in range(4)
    }
    assert pairs[0]["image"].shape == pairs[0]["absent"].shape == (8, 6, 2)
    known = {patient_of_slice(pairs.info.case_names[i]) for i in pairs.labelled}
    assert len(known) == 1 and known < set(info.case_names)
    assert test.info.class_names == ("background", "lesion") and test.info.spacing == (2.0, 1.0)
    with pytest.raises(ValueError, match="0 hemispheres with a lesion"):
        hemisphere_parts(ConfigDict(dict(data) | {"sick": 0.9}), (train, base, base))


def test_volumes_must_have_hemispheres_of_the_shape_asked_for():
    data = load_config("genseg:cpu,data=hemispheres").data
    group = hemisphere_subjects(data)
    assert (group.shape, group.skull) == ((64, 64, 32), False)
    wrong = load_config("genseg:cpu,data=hemispheres", {"data.shape": "(24, 24)"}).data
    with pytest.raises(ValueError, match=r"data\.volume"):
        hemisphere_subjects(wrong)


def test_ringing_around_the_brain_is_no_brain():
    """Splines of a resampled volume leave small values all around it."""
    record = volumes()[0]
    rng = np.random.default_rng(1)
    ringing = record["image"] + 0.02 * rng.normal(size=record["image"].shape).astype(np.float32)
    ringing[0, 0, 0] = 0
    _, brain, (shift, scale) = scaled_brain(ringing, HemisphereSettings())
    assert (brain == (record["label"] > 0)).mean() > 0.97
    inside = record["image"][record["label"] > 0]
    np.testing.assert_allclose([shift, scale], [inside.mean(), 5 * inside.std()], rtol=0.03)
    with pytest.raises(ValueError, match="a volume is constant"):
        scaled_brain(np.ones((4, 4, 4, 1), np.float32), HemisphereSettings())
