"""Case metrics: values, the policy on empty masks, errors; the jitted Dice."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxmedgen.metrics import segmentation
from jaxmedgen.metrics.regions import parse_regions

NAMES = ("background", "heart", "lung")


def _two_boxes():
    reference = np.zeros((12, 12, 12), np.int32)
    reference[2:6, 2:6, 2:6] = 1
    reference[7:11, 7:11, 7:11] = 2
    return reference


def test_values_of_a_shifted_box():
    reference = _two_boxes()
    prediction = np.where(reference == 2, 2, 0)
    prediction[3:7, 2:6, 2:6] = 1
    scores = segmentation.evaluate_case(prediction, reference, NAMES, (2.0, 1.0, 1.0))
    assert set(scores) == {"heart", "lung"}
    assert scores["lung"]["dice"] == scores["lung"]["iou"] == scores["lung"]["nsd"] == 1
    assert scores["lung"]["hd95"] == scores["lung"]["assd"] == 0
    assert scores["heart"]["dice"] == pytest.approx(2 * 48 / 128)
    assert scores["heart"]["iou"] == pytest.approx(48 / 80)
    assert scores["heart"]["hd95"] == pytest.approx(2.0)
    assert scores["lung"]["hd"] == 0 and scores["heart"]["hd"] == pytest.approx(2.0)
    assert scores["heart"]["reference_size"] == 64 * 2.0


@pytest.mark.parametrize("missed", ["prediction", "reference"])
def test_missed_class_costs_the_diagonal(missed):
    full, hole = _two_boxes(), np.where(_two_boxes() == 1, 1, 0)
    prediction, reference = (hole, full) if missed == "prediction" else (full, hole)
    scores = segmentation.evaluate_case(prediction, reference, NAMES, (1.0, 2.0, 3.0))
    assert scores["lung"]["dice"] == scores["lung"]["iou"] == scores["lung"]["nsd"] == 0
    diagonal = math.sqrt(12**2 + 24**2 + 36**2)
    assert scores["lung"]["hd"] == scores["lung"]["assd"] == pytest.approx(diagonal)
    assert segmentation.foreground_mean(scores) == 0.5


def test_regions_are_unions_of_classes():
    """BraTS: a region absent from both is right, one that is only predicted is wrong."""
    reference = np.zeros((6, 6, 6), np.int32)
    reference[1:4, 1:4, 1:4] = 2
    reference[1, 1:4, 1:4] = 1
    prediction = np.where(reference == 1, 2, reference)
    names = ("background", "necrotic", "oedema", "enhancing")
    regions = parse_regions("ET=enhancing,TC=1+3,WT=1+2+3", names)
    assert regions == {"ET": (3,), "TC": (1, 3), "WT": (1, 2, 3)}
    given = prediction, reference, names, (1.0, 1.0, 1.0)
    scores = segmentation.evaluate_case(*given, regions=regions, absent="right")
    assert {k: s["dice"] for k, s in scores.items()} == {"ET": 1, "TC": 0, "WT": 1}
    assert scores["ET"]["hd95"] == 0 and scores["ET"]["lesion_f1"] == 1
    assert scores["TC"]["reference_size"] == 9
    assert math.isnan(segmentation.evaluate_case(*given, regions=regions)["ET"]["dice"])
    prediction[5, 5, 5] = 3
    spurious = segmentation.evaluate_case(*given, regions=regions, absent="right")
    assert spurious["ET"]["dice"] == 0
    for text, message in (("TC", "give NAME="), ("A=1,A=2", "twice"), ("A=4", "1 necrotic, 2 oe")):
        with pytest.raises(ValueError, match=message):
            parse_regions(text, names)


def test_absent_from_both_is_excluded():
    labels = np.where(_two_boxes() == 1, 1, 0)
    scores = segmentation.evaluate_case(labels, labels, NAMES, (1, 1, 1))
    assert all(math.isnan(scores["lung"][m]) for m in ("dice", "iou", "nsd", "hd", "hd95", "assd"))
    assert segmentation.foreground_mean(scores) == 1.0


@settings(max_examples=20, deadline=None)
@given(hnp.arrays(np.int32, (5, 4, 3), elements=st.integers(0, 2)), st.integers(1, 2))
def test_dropping_a_class_never_improves_a_score(reference, dropped):
    prediction = np.roll(reference, 1, axis=0)
    before = segmentation.evaluate_case(prediction, reference, NAMES, (1, 1, 2.5))
    worse = np.where(prediction == dropped, 0, prediction)
    after = segmentation.evaluate_case(worse, reference, NAMES, (1, 1, 2.5))
    for name in before:
        if not (reference == NAMES.index(name)).any():
            continue
        for metric in segmentation.OVERLAPS:
            assert after[name][metric] <= before[name][metric]
        for metric in segmentation.DISTANCES:
            assert after[name][metric] >= before[name][metric]


def test_one_far_voxel_counts_for_hd_alone():
    reference = np.zeros((40, 40), np.int32)
    reference[2:22, 2:22] = 1
    prediction = reference.copy()
    prediction[30, 12] = 1
    heart = segmentation.evaluate_case(prediction, reference, NAMES[:2], (1, 1))["heart"]
    assert heart["hd"] == pytest.approx(9, abs=0.6) and heart["hd95"] < 1


def test_works_in_2d_and_on_whole_floats():
    reference = np.zeros((9, 9))
    reference[2:5, 2:5] = 1
    scores = segmentation.evaluate_case(np.roll(reference, 2, 1), reference, NAMES[:2], (1, 0.5))
    assert scores["heart"]["hd95"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: (a[:-1], (1, 1, 1)), "prediction has shape"),
        (lambda a: (np.where(a == 1, np.nan, a), (1, 1, 1)), "prediction holds NaN"),
        (lambda a: (a + 0.5, (1, 1, 1)), "fractional"),
        (lambda a: (a + 1, (1, 1, 1)), r"labels 1\.\.3 but class_names has 3"),
        (lambda a: (a, (1, 1)), "2 numbers for 3 axes"),
        (lambda a: (a, (1, 0, 1)), "positive"),
    ],
)
def test_errors_are_one_line(change, message):
    prediction, spacing = change(_two_boxes())
    with pytest.raises(ValueError, match=message) as error:
        segmentation.evaluate_case(prediction, _two_boxes(), NAMES, spacing)
    assert "\n" not in str(error.value)


def test_batch_axis_is_refused():
    with pytest.raises(ValueError, match="without a batch axis"):
        segmentation.evaluate_case(_two_boxes()[None], _two_boxes()[None], NAMES, (1, 1, 1, 1))


def test_jitted_dice_agrees_with_the_case_metric():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (2, 6, 5, 4)).astype(np.int32)
    labels[1][labels[1] == 2] = 0
    logits = rng.normal(size=(2, 6, 5, 4, 3)).astype(np.float32)
    logits[1, ..., 2] = -9
    dice = jax.jit(segmentation.dice_per_class)(jnp.asarray(logits), jnp.asarray(labels))
    mean = jax.jit(segmentation.dice_score)(jnp.asarray(logits), jnp.asarray(labels))
    for i in range(2):
        scores = segmentation.evaluate_case(logits[i].argmax(-1), labels[i], NAMES, (1, 1, 1))
        expected = [scores["heart"]["dice"], scores["lung"]["dice"]]
        np.testing.assert_allclose(dice[i, 1:], expected, rtol=1e-6)
        assert float(mean[i]) == pytest.approx(segmentation.foreground_mean(scores), rel=1e-6)
    assert math.isnan(float(dice[1, 2]))
    same = segmentation.dice_per_class(jnp.asarray(labels), jnp.asarray(labels), 3)
    np.testing.assert_array_equal(np.nan_to_num(same, nan=1), 1)
    with pytest.raises(ValueError, match="pass num_classes"):
        segmentation.dice_per_class(jnp.asarray(labels), jnp.asarray(labels))
