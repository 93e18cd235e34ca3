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


def test_the_hidden_family_has_as_many_dimensions_as_modes():
    def unexplained(individual, left_out=None):
        cohort = BrainCohort(40, (12, 12, 12), modes=5, individual=individual)
        fields = np.stack([cohort.displacement(i).ravel() for i in range(40)])
        latent = np.stack([cohort.latent(i) for i in range(40)])
        if left_out is not None:
            latent = np.delete(latent, left_out, axis=1)
        known = np.column_stack([np.ones(40), latent])
        residual = fields - known @ np.linalg.lstsq(known, fields, rcond=None)[0]
        components = np.linalg.svd(fields - fields.mean(0), compute_uv=False) ** 2
        return (residual**2).sum() / components.sum(), components[5:].sum() / components.sum()

    # The field is linear in its coefficients but for the curvature of exp. Regression on the known
    # coefficients, as the local ventricle mode (k = 2) has no more energy over the whole box than
    # that curvature and cannot be told from it by principal components alone.
    residual, tail = unexplained(0.0)
    assert residual < 0.02 and tail < 0.02
    for k in range(5):
        assert unexplained(0.0, left_out=k)[0] > 1.3 * residual
    assert min(unexplained(1.0)) > 0.04


def test_latent_coefficients_are_standard_normal_and_explain_the_subject():
    cohort = BrainCohort(400, SMALL)
    latent = np.stack([cohort.latent(i) for i in range(400)])
    np.testing.assert_allclose(latent.mean(0), 0, atol=0.2)
    np.testing.assert_allclose(latent.std(0), 1, atol=0.12)
    assert np.abs(np.corrcoef(latent.T) - np.eye(6)).max() < 0.2
    family = BrainCohort(24, SMALL, classes="anatomy", individual=0.0)
    ventricles = [family.probabilities(i)[..., 2].sum() for i in range(24)]
    size = [family.probabilities(i)[..., 1:].sum() for i in range(24)]
    assert np.corrcoef(ventricles, latent[:24, 2])[0, 1] > 0.6  # atrophy
    assert np.corrcoef(size, latent[:24, 0])[0, 1] > 0.6


def test_no_subject_folds():
    cohort = BrainCohort(30, (48, 48, 48), lesions=("tumour",))
    for index in range(30):
        u = cohort.displacement(index)
        gradient = np.stack(np.gradient(u, axis=(0, 1, 2)), -1) + np.eye(3)
        assert np.linalg.det(gradient).min() > 0.05


def test_the_same_subject_at_two_resolutions():
    fine, coarse = BrainCohort(2, (64,) * 3), BrainCohort(2, (32,) * 3)
    for index in range(2):
        blocks = fine.probabilities(index).reshape(32, 2, 32, 2, 32, 2, 4).mean((1, 3, 5))
        dice = (blocks.argmax(-1) == coarse[index]["label"]).mean()
        assert dice > 0.95
        field = fine.displacement(index).reshape(32, 2, 32, 2, 32, 2, 3).mean((1, 3, 5)) / 2
        np.testing.assert_allclose(field, coarse.displacement(index), atol=0.05)


def test_probabilities_and_labels_agree():
    for lesions in ((), ("wmh", "tumour")):
        cohort = BrainCohort(2, SMALL, lesions=lesions, classes="anatomy")
        soft = cohort.probabilities(1)
        np.testing.assert_allclose(soft.sum(-1), 1, atol=1e-5)
        assert soft.min() >= 0
        np.testing.assert_array_equal(soft.argmax(-1), cohort[1]["label"])


def test_label_volumes_are_plausible():
    cohort = BrainCohort(6, (64,) * 3)
    counts = np.stack([np.bincount(cohort[i]["label"].ravel(), minlength=4) for i in range(6)])
    share = counts[:, 1:] / counts[:, 1:].sum(1, keepdims=True)
    low, high = np.array([0.12, 0.42, 0.26]), np.array([0.24, 0.58, 0.40])
    assert (share > low).all() and (share < high).all()


def test_training_and_test_subjects_are_disjoint():
    train, test = BrainCohort(5, SMALL), BrainCohort(5, SMALL, start=5, site="b")
    assert not set(train.info.case_names) & set(test.info.case_names)
    latents = np.stack([*map(train.latent, range(5)), *map(test.latent, range(5))])
    distance = np.linalg.norm(latents[:, None] - latents, axis=-1) + 10 * np.eye(10)
    assert distance.min() > 0.1


def test_without_skull_background_is_constant_and_the_label_unchanged_in_kind():
    record = BrainCohort(1, SMALL, skull=False)[0]
    outside = record["image"][..., 0][record["label"] == 0]
    assert np.unique(outside).size < 0.1 * outside.size
    np.testing.assert_allclose(np.median(outside), record["image"].min())
