"""Results survive the disk, and impossible ones are refused."""

import dataclasses
import json
import math

import numpy as np
import pytest

from jaxmedgen.report import results as results_module


def test_round_trip(results, tmp_path):
    odd = results.runs[0]
    scores = {"case_0": {"heart": {"dice": math.nan}, "lung": {"dice": 0.5}}}
    curve = ({"step": 1, "train_loss": math.inf},)
    odd = dataclasses.replace(odd, scores=scores, curve=curve, warnings=("one",))
    results = dataclasses.replace(
        results, runs=(odd, *results.runs[1:]), budgets_of={"gan": results.budgets}
    )
    found = results_module.load_results(results_module.save_results(results, tmp_path / "a" / "b"))
    for field in dataclasses.fields(results):
        if field.name not in ("runs", "overlays", "samples"):
            assert getattr(found, field.name) == getattr(results, field.name), field.name
    assert found.runs[1:] == results.runs[1:]
    assert math.isnan(found.runs[0].scores["case_0"]["heart"]["dice"])
    assert found.runs[0].curve == curve and found.runs[0].warnings == ("one",)
    for a, b in zip(found.overlays, results.overlays, strict=True):
        assert (a.arm, a.case, a.score) == (b.arm, b.case, b.score)
        for name in ("image", "label", "prediction"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    np.testing.assert_array_equal(found.samples["gan"][0][1], results.samples["gan"][0][1])


def test_numpy_scalars_and_paths_are_written(results, tmp_path):
    settings = {"rate": np.float32(0.5), "sizes": np.arange(2), "folder": tmp_path}
    odd = dataclasses.replace(results, settings=settings)
    found = results_module.load_results(results_module.save_results(odd, tmp_path))
    assert found.settings == {"rate": 0.5, "sizes": [0, 1], "folder": str(tmp_path)}


def test_missing_or_other_files_are_named(results, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"results\.json is missing"):
        results_module.load_results(tmp_path)
    results_module.save_results(results, tmp_path)
    path = tmp_path / "results.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(ValueError, match="not of format 1"):
        results_module.load_results(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference_arm": "nothing"}, "reference_arm 'nothing' is not in"),
        ({"budgets": (2,)}, "budget 8 is not in"),
        ({"arms": {"none": ""}}, "arm 'affine' is not in"),
    ],
)
def test_impossible_results_are_refused(results, change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(results, **change)


def test_a_run_twice_is_refused(results):
    with pytest.raises(ValueError, match="occurs twice"):
        dataclasses.replace(results, runs=(*results.runs, results.runs[0]))
