"""Heart slices of vendors and diseases, and late-enhancement slices: their shapes and sizes."""

import numpy as np
import pytest

from jaxmedgen.data.phantoms.heart_slices import HeartSlices
from jaxmedgen.data.phantoms.late_enhancement import SCAR, TARGET_OF, LateEnhancement
from jaxmedgen.data.splits import patient_of


def test_slices_are_functions_of_their_number():
    whole = HeartSlices(6, vendors=("A", "C"), diseases=("NOR", "HCM"))
    later = HeartSlices(2, start=4, vendors=("A", "C"), diseases=("NOR",))
    assert np.array_equal(whole[4]["image"], later[0]["image"])
    assert whole.info.case_names[:4] == (
        "A-NOR-00000", "C-NOR-00001", "A-HCM-00002", "C-HCM-00003",
    )  # fmt: skip
    record = whole[0]
    assert record["image"].shape == (64, 64, 1) and record["image"].dtype == np.float32
    assert 0 <= record["image"].min() and record["image"].max() <= 1
    with pytest.raises(ValueError, match="vendors \\('E',\\)"):
        HeartSlices(1, vendors=("E",))


def test_diseases_have_their_shapes():
    """Same subjects: thick walls in HCM, wide cavities in DCM, wide right ventricles in RV."""

    def sizes(disease):
        labels = [HeartSlices(12, seed=1, diseases=(disease,))[i]["label"] for i in range(12)]
        return np.array([[(label == k).sum() for k in (1, 2, 3)] for label in labels]).mean(0)

    normal = sizes("NOR")
    assert sizes("HCM")[1] > 1.3 * normal[1]
    assert sizes("DCM")[0] > 1.3 * normal[0]
    assert sizes("RV")[2] > 1.5 * normal[2]


def test_scars_are_as_large_and_as_frequent_as_told():
    source = LateEnhancement(60, seed=3)
    records = [source[i] for i in range(60)]
    shares = np.array([(r["label"] >= SCAR).mean() for r in records])
    free = (shares == 0).mean()
    assert 0.15 < free < 0.45
    scarred = shares[shares > 0]
    assert 0.005 < np.median(scarred) < 0.03
    blood, muscle, scar = (
        np.mean(
            [
                r["image"][..., 0][r["label"] == k].mean()
                for r in records
                if (r["label"] == k).sum() > 20
            ]
        )
        for k in (1, 2, SCAR)
    )
    assert muscle < 0.5 * blood and abs(scar - blood) < 0.25
    merged = np.asarray(TARGET_OF)[records[int(shares.argmax())]["label"]]
    assert set(np.unique(merged)) == {0, 1, 2, 3}


def test_slices_of_a_subject_share_its_scar_and_name():
    source = LateEnhancement(8, seed=5, slices=3, scar_free=0.5)
    names = source.info.case_names
    assert len(source) == 24 and names[4] == "sub-00001_slice-1"
    assert len({patient_of(name) for name in names}) == 8
    has = np.array([(source[i]["label"] >= SCAR).any() for i in range(24)]).reshape(8, 3)
    assert (has.all(1) | ~has.any(1)).mean() > 0.7  # thin scars may miss a slice
    assert not np.array_equal(source[0]["image"], source[1]["image"])
