"""Simulated scans: deterministic, ordered as their family says, wrong names refused."""

import numpy as np
import pytest

from jaxmedgen.data.simulated import SimulatedScans
from jaxmedgen.data.sources import ArraySource, DatasetInfo


def maps(names=("background", "white_matter", "cortex", "lateral_ventricle")):
    label = np.zeros((16, 16, 16), np.int32)
    label[2:14, 2:14, 2:14] = 2
    label[4:12, 4:12, 4:12] = 1
    label[6:10, 6:10, 6:10] = 3
    return ArraySource([{"label": label}] * 2, DatasetInfo(names, (), (4.0,) * 3, ("a", "b")))


def test_contrast_follows_the_family():
    means = {}
    for family in ("t1", "t2"):
        record = SimulatedScans(maps(), family)[0]
        inner = {k: record["image"][record["label"] == k].mean() for k in (1, 2, 3)}
        means[family] = [inner[k] for k in (1, 2, 3)]
    assert means["t1"][0] > means["t1"][1] > means["t1"][2]
    assert means["t2"][0] < means["t2"][1] < means["t2"][2]


def test_deterministic_and_different_between_subjects():
    scans = SimulatedScans(maps(), "t1", seed=3)
    np.testing.assert_array_equal(scans[0]["image"], SimulatedScans(maps(), "t1", 3)[0]["image"])
    assert not np.array_equal(scans[0]["image"], scans[1]["image"])
    assert scans.info.channel_names == ("t1",)


def test_unknown_family_and_names_are_refused():
    with pytest.raises(ValueError, match="unknown contrast family 'pd'"):
        SimulatedScans(maps(), "pd")
    with pytest.raises(ValueError, match="no signal for liver"):
        SimulatedScans(maps(("background", "white_matter", "cortex", "liver")), "t1")
