import dataclasses
import socket

import numpy as np
import pytest

from jaxmedgen.data.phantoms import BrainCohort
from jaxmedgen.data.sources import Source

SMALL = (32, 32, 32)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the phantom opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)


def test_record_and_info():
    cohort = BrainCohort(3, (32, 40, 36), contrasts=("t1", "t2"), classes="anatomy")
    assert isinstance(cohort, Source) and len(cohort) == 3
    record = cohort[1]
    assert record["image"].shape == (32, 40, 36, 2) and record["image"].dtype == np.float32
    assert record["label"].shape == (32, 40, 36) and record["label"].dtype == np.int32
    np.testing.assert_allclose(record["image"].mean((0, 1, 2)), 0, atol=1e-3)
    np.testing.assert_allclose(record["image"].std((0, 1, 2)), 1, atol=1e-3)
    assert set(np.unique(record["label"])) == set(range(cohort.info.num_classes))
    np.testing.assert_allclose(np.abs(np.diag(cohort.affine)[:3]), cohort.info.spacing)


def test_subjects_depend_on_seed_and_number_alone():
    cohort = BrainCohort(6, SMALL)
    last = cohort[5]
    cohort[0]
    np.testing.assert_array_equal(last["image"], cohort[5]["image"])
    shifted = BrainCohort(2, SMALL, start=5)
    np.testing.assert_array_equal(last["image"], shifted[0]["image"])
    np.testing.assert_array_equal(last["label"], shifted[0]["label"])
    assert (cohort[4]["label"] != last["label"]).mean() > 0.01
    assert (BrainCohort(6, SMALL, seed=1)[5]["label"] != last["label"]).mean() > 0.01


def test_errors_name_value_and_fix():
    for bad in ({"contrasts": ("pd",)}, {"site": "z"}, {"lesions": ("ms",)}, {"classes": "x"}):
        with pytest.raises(ValueError, match=r"unknown .* choose from"):
            BrainCohort(1, **bad)
    with pytest.raises(IndexError, match="subject 2 of a cohort of 2"):
        BrainCohort(2, SMALL)[2]
    with pytest.raises(ValueError, match="none may be negative"):
        dataclasses.replace(BrainCohort(2), start=-1)
