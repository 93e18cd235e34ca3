"""How synthetic hearts lie among real ones and change from slice to slice, on made-up stacks."""

import types

import numpy as np
import pytest

from jaxmedgen.data.stacks import Stack
from jaxmedgen.experiments.reproductions.hearts import deformation, pathology, subjects
from jaxmedgen.experiments.reproductions.hearts.models import Model
from jaxmedgen.metrics.cardiac import clinical_indices
from jaxmedgen.metrics.plausibility import IndexRange

SPACING = (8.0, 2.0, 2.0)


def heart(radius, shrink=0):
    """Six slices; every one has a left cavity that is `shrink` mm narrower than the one before."""
    rows, columns = np.indices((48, 48)) * 2.0
    left = np.hypot(rows - 46, columns - 36)
    right = np.hypot(rows - 46, columns - 74)
    label = np.where(right < 14, 3, 0)
    slices = []
    for k in range(6):
        each = np.where(left < radius + 8, 2, label)
        slices.append(np.where(left < radius - k * shrink, 1, each))
    return np.stack(slices).astype(np.int32)


@pytest.fixture
def model():
    """A model of volumes that keeps every label map as it is; two training, two test hearts."""
    stacks = [Stack(heart(r, shrink=1), SPACING, f"heart{r}") for r in (16, 22, 18, 19)]
    train, test = tuple(stacks[:2]), tuple(stacks[2:])
    indices = [clinical_indices(s.label, s.spacing) for s in train]
    space = types.SimpleNamespace(
        volumes=True, embed=lambda stack: stack.label, stack=lambda latents: latents.astype(int)
    )
    population = types.SimpleNamespace(
        latents=np.stack([s.label for s in train]).astype(float),
        range=IndexRange.of(indices, (0, 100)),
        members=lambda group: np.arange(2),
    )
    made = object.__new__(Model)
    values = {"space": space, "train": train, "test": test, "population": population}
    for name, value in {**values, "kl": 3.0, "seconds": 1.0}.items():
        object.__setattr__(made, name, value)
    return made


def steps(label):
    """Mean change of a class's area from slice to slice, mm^2."""
    areas = np.asarray([[(each == k).sum() * 4.0 for k in (1, 2, 3)] for each in label])
    return np.abs(areas[1:] - areas[:-1]).mean()


def test_distance_to_the_nearest_subject(model):
    spread = np.array([2.0, 1.0])
    found = deformation.nearest_distance(
        np.array([[0.0, 0.0], [8.0, 3.0]]), np.array([[6.0, 3.0], [0.0, 2.0]]), spread
    )
    assert found == pytest.approx((2 + 1) / 2)
    copied = deformation.judge(model, [stack.label for stack in model.train])
    assert copied.to_train == 0 and copied.in_range == 100
    test = np.stack([clinical_indices(s.label, s.spacing).vector() for s in model.test])
    train = np.stack([clinical_indices(s.label, s.spacing).vector() for s in model.train])
    apart = (train[:, None] - test) / test.std(0)
    expected = np.sqrt((apart**2).sum(-1)).min(1).mean()
    assert copied.to_held_out == pytest.approx(expected)
    assert deformation.judge(model, [stack.label for stack in model.test]).to_held_out == 0


def test_changes_of_area_between_slices(model, monkeypatch):
    for name in ("dice_of_model", "reconstruction_dice", "mean_roughness"):
        monkeypatch.setattr(subjects.slices, name, lambda model: 0.5)
    expected = np.mean([steps(stack.label) for stack in model.test])
    assert expected > 50
    assert subjects.summarise(model).area_jumps == pytest.approx(expected)
    jumps = {"moments": heart(20, shrink=1), "raw": heart(20), "none": heart(20, shrink=2)}

    def draw_latents(rng, statistics, count, way="moments"):
        return np.stack([jumps[way].astype(float)] * 2)

    monkeypatch.setattr(pathology, "draw_latents", draw_latents)
    monkeypatch.setattr(pathology, "disease_statistics", lambda model, disease: None)
    monkeypatch.setattr(pathology, "_moment_errors", lambda wanted, drawn: np.zeros((2, 1)))
    found = pathology.coherence(model, 0)
    assert found.jumps == pytest.approx({way: steps(label) for way, label in jumps.items()})
    assert found.jumps["raw"] == 0
    assert found.real_jumps == pytest.approx(np.mean([steps(s.label) for s in model.train]))
