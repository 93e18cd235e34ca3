import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmedgen.data import splits
from jaxmedgen.data.untrusted import DataError

NAMES = [f"case_{i:02d}" for i in range(20)]
SCANS = [f"sub-{i:02d}_ses-{j}_T1w" for i in range(8) for j in range(3)]


def test_split_is_a_partition_that_ignores_file_order():
    split = splits.train_test_split(NAMES, test_fraction=0.25, seed=1)
    assert len(split.test) == 5 and sorted(split.train + split.test) == NAMES
    assert splits.train_test_split(NAMES[::-1], test_fraction=0.25, seed=1) == split
    assert splits.train_test_split(NAMES, test_count=5, seed=1) == split
    assert splits.train_test_split(NAMES, test_fraction=0.25, seed=2) != split


@settings(max_examples=20, deadline=None)
@given(folds=st.integers(2, 8), seed=st.integers(0, 99))
def test_folds_test_every_patient_once_and_never_split_one(folds, seed):
    parts = splits.k_fold(SCANS, folds, seed=seed)
    assert sorted(n for p in parts for n in p.test) == sorted(SCANS)
    sizes = [len({splits.patient_of(n) for n in p.test}) for p in parts]
    assert max(sizes) - min(sizes) <= 1
    for part in parts:
        assert sorted(part.train + part.test) == sorted(SCANS)
        assert not {n[:6] for n in part.train} & {n[:6] for n in part.test}


def test_smaller_training_sets_are_nested_and_survive_new_cases():
    few = splits.first_patients(NAMES, 3, seed=4)
    more = splits.first_patients(NAMES, 7, seed=4)
    assert len(few) == 3 and more[:3] == few
    grown = splits.first_patients([*NAMES, "case_99"], 8, seed=4)
    assert [n for n in grown if n != "case_99"][:7] == list(more)


def test_patients():
    assert splits.patient_of("sub-01_ses-2_T1w") == "sub-01"
    assert splits.patient_of("sub-01") == "sub-01"
    assert splits.patient_of("subject1_a") == "subject1_a"
    assert splits.patient_of("sub-01-003") == "sub-01"  # a slice of it
    assert splits.patient_of("patient001_z012_left") == "patient001"
    assert splits.patient_of("case-001") == "case-001"
    for name in ("patient001_frame12", "patient001_ED", "patient001_frame01_z03", "patient001-ES"):
        assert splits.patient_of(name) == "patient001"
    assert splits.patient_of("case_z1x") == "case_z1x" and splits.patient_of("_ED") == "_ED"
    visits = ("001_bl", "001_m12", "001_visit2", "001-V1", "001_2006-04-18", "001_20060418_left")
    assert {splits.patient_of(name) for name in visits} == {"001"}
    for name in ("scan_1", "visit2", "BRATS_001", "site2_003", "IXI002-Guys-0828-T1", "A0S9V9"):
        assert splits.patient_of(name) == name  # nothing would be left, or the number is the name
    assert splits.patient_of("002_S_0295_2006-04-18_T1") == "002_S_0295"
    visits = ("1000000_20252_2_0", "1000000_20252_3_0")  # UK Biobank: field, visit, array
    assert {splits.patient_of(name) for name in visits} == {"1000000"}
    assert splits.patient_of("1000000_2") == "1000000_2"
    assert splits.patient_of("OAS30001_MR_d0129") == "OAS30001"
    assert splits.patient_of("OAS2_0001_MR2") == "OAS2_0001"
    assert splits.patient_of("BraTS-GLI-00005-101") == "BraTS-GLI-00005"
    split = splits.train_test_split(
        ["a1", "a2", "b1", "b2"], test_count=1, patient=lambda name: name[0]
    )
    assert {n[0] for n in split.test} != {n[0] for n in split.train} and len(split.test) == 2


def test_names_that_may_be_of_one_patient_are_told():
    told = splits.unclear_patients(["p1_a", "p1_b", "p2_a", "p3_c"])
    assert told.startswith("p1_a and p1_b count as different patients, and 1 group of names")
    told = splits.unclear_patients(["bl_001", "m12_001", "bl_002", "m12_002", "bl_003"])
    assert told.startswith("bl_001 and m12_001 count as different patients, and 2 groups")
    told = splits.unclear_patients(["001_T1", "001_T2"])
    assert told.startswith("001_T1 and 001_T2 count as different patients, and 1 group ")
    sites = [f"site{s}_{i:03d}" for s in (1, 2) for i in range(12)]
    for names in (NAMES, SCANS, sites, ["001_bl", "001_m12", "002_bl"], ["a_1", "a_2", "b_1"]):
        assert splits.unclear_patients(names) == ""


def test_one_patient_with_more_visits_than_usual_is_told():
    for head, told in (("site1_V", "site1"), ("T1_scan_", "T1")):
        names = [f"{head}{number:03d}" for number in range(9)]
        assert {splits.patient_of(name) for name in names} == {told}  # as ever: splits stay
        note = splits.unclear_patients([*names, f"{names[0]}_left"])
        assert note.startswith(f"9 scans such as {names[0]} and {names[1]} count as those of one")
        assert f"one patient, {told}. " in note and "\n" not in note
        assert splits.unclear_patients(names[:8]) == ""
    slices = [f"p001_z{number:03d}" for number in range(40)]
    sessions = [f"sub-1_visit{number}" for number in range(12)]
    assert splits.unclear_patients(slices) == splits.unclear_patients(sessions) == ""


def test_leakage_is_refused():
    with pytest.raises(DataError, match="1 patients are in training and test \\(sub-01\\)"):
        splits.check_split(splits.Split(("sub-01_ses-1",), ("sub-01_ses-2",)))
    with pytest.raises(DataError, match="case names occur twice: a"):
        splits.train_test_split(["a", "b", "a"], test_count=1)
    with pytest.raises(DataError, match="occur twice"):
        splits.k_fold(["a", "b", "a"], 2)


@pytest.mark.parametrize(
    "bad", [{}, {"test_count": 2, "test_fraction": 0.2}, {"test_count": 20}, {"test_count": 0}]
)
def test_bad_counts_are_refused(bad):
    with pytest.raises(ValueError, match=r"give either|leaves one side empty"):
        splits.train_test_split(NAMES, **bad)


def test_bad_folds_are_refused():
    with pytest.raises(ValueError, match="9 folds do not fit 8 patients"):
        splits.k_fold(SCANS, 9)
    with pytest.raises(ValueError, match="0 patients asked for"):
        splits.first_patients(NAMES, 0)


def test_nnunet_splits(tmp_path):
    folds = [{"train": ["a", "b"], "val": ["c"]}, {"train": ["b", "c"], "val": ["a"]}]
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps(folds))
    read = splits.read_nnunet_splits(tmp_path, ["a", "b", "c", "d"])
    assert read == [splits.Split(("a", "b"), ("c",)), splits.Split(("b", "c"), ("a",))]
    with pytest.raises(DataError, match=r"fold 0 names missing cases \['c'\]"):
        splits.read_nnunet_splits(path, ["a", "b"])
    path.write_text(json.dumps([{"train": ["a"], "val": ["a"]}]))
    with pytest.raises(DataError, match="in training and test"):
        splits.read_nnunet_splits(path)
    path.write_text("{}[")
    with pytest.raises(DataError, match="not an nnU-Net split"):
        splits.read_nnunet_splits(path)
    path.unlink()
    with pytest.raises(DataError, match="No such file"):
        splits.read_nnunet_splits(path)
