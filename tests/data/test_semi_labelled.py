"""Who keeps a mask: whole patients, nested shares, candidates alone."""

import numpy as np
import pytest

from jaxmedgen.data.semi_labelled import semi_labelled
from jaxmedgen.data.sources import ArraySource, DatasetInfo


def source():
    """Ten patients with four slices each."""
    names = tuple(f"p{i}_z{j}" for i in range(10) for j in range(4))
    records = [{"image": np.ones((2, 2, 1), np.float32), "label": np.ones((2, 2), np.int32)}] * 40
    return ArraySource(records, DatasetInfo(("background", "a"), ("x",), (1.0, 1.0), names))


def test_patients_are_labelled_as_a_whole_and_shares_are_nested():
    found = {
        share: semi_labelled(source(), share, seed=3, patient=lambda n: n.split("_")[0])
        for share in (0.1, 0.25, 1.0)
    }
    for share, made in found.items():
        patients = {made.info.case_names[i].split("_")[0] for i in made.labelled}
        assert len(made.labelled) == 4 * len(patients)
        assert share * 40 <= len(made.labelled) < share * 40 + 4
        for i in range(40):
            assert made[i]["label"].all() == made[i]["has_mask"] == (i in made.labelled)
    assert found[0.1].labelled < found[0.25].labelled < found[1.0].labelled


def test_only_candidates_are_labelled():
    made = semi_labelled(source(), 0.1, candidates=[1, 2, 3, 8, 30])
    assert len(made.labelled) == 4 and made.labelled <= {1, 2, 3, 8, 30}
    with pytest.raises(ValueError, match="only 2 may be"):
        semi_labelled(source(), 0.1, candidates=[1, 2])
    with pytest.raises(ValueError, match="share=0"):
        semi_labelled(source(), 0.0)
