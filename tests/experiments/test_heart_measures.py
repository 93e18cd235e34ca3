"""How synthetic hearts lie among real ones and change from slice to slice, on made-up stacks."""

import types

import numpy as np
import pytest

from jaxmedgen.data.stacks import Stack
from jaxmedgen.experiments.reproductions.hearts import (
    deformation,
    pathology,
    slices,
    subjects,
)
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
    space = types.SimpleNamespace(
        volumes=True, embed=lambda stack: stack.label, stack=lambda latents: latents.astype(int)
    )
    population = types.SimpleNamespace(
        latents=np.stack([s.label for s in train]).astype(float),
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


def test_distance_to_the_nearest_subject(model, monkeypatch):
    # All of two subjects; their 1 to 99 % have neither. They have as many slices as they had.
    whole = types.SimpleNamespace(of=lambda indices: IndexRange.of(indices, (0, 100)))
    monkeypatch.setattr(deformation, "IndexRange", whole)
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
    for name in ("dice_of_model", "mean_roughness"):
        monkeypatch.setattr(subjects.slices, name, lambda model: 0.5)
    scores = np.array([[1.0, 0.5, np.nan], [0.8, 0.6, 0.1]])
    monkeypatch.setattr(subjects.slices, "reconstruction_dice", lambda model: scores)
    expected = np.mean([steps(stack.label) for stack in model.test])
    assert expected > 50
    found = subjects.summarise(model)
    assert found.area_jumps == pytest.approx(expected)
    assert found.dice == pytest.approx(3.0 / 5)
    by_class = {"left cavity": 0.9, "muscle": 0.55, "right cavity": 0.1}
    assert found.class_dice == pytest.approx(by_class)
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


def test_reconstruction_is_scored_class_by_class(model):
    """A model of slices that takes the right cavity for muscle, and forgets every other one."""

    def decode(label):
        kept = np.where((np.arange(len(label)) % 2 == 0)[:, None, None], label, 0)
        return np.where(label == 3, 2, np.where(label == 2, kept, label))

    space = types.SimpleNamespace(volumes=False, encode=lambda label: label, decode=decode)
    object.__setattr__(model, "space", space)
    found = slices.reconstruction_dice(model)
    assert found.shape == (12, 3) and not found[:, 2].any()
    np.testing.assert_array_equal(found[:, 0], 1)
    label = np.concatenate([stack.label for stack in model.test])
    muscle, right = ((label == k).sum((1, 2)) for k in (2, 3))
    even = np.arange(12) % 2 == 0
    expected = np.where(even, 2 * muscle / (2 * muscle + right), 0)
    np.testing.assert_allclose(found[:, 1], expected)


def test_probability_of_a_disease_on_the_way_to_it(model, monkeypatch):
    """The latent number of a heart is its radius; healthy ones are narrower than dilated ones."""
    groups = {"NOR": np.arange(17, 21), "DCM": np.arange(25, 29)}
    radius = np.concatenate(list(groups.values()))
    labels = [heart(r, shrink=1) for r in radius]
    names = tuple(types.SimpleNamespace(group=g) for g, found in groups.items() for _ in found)
    space = types.SimpleNamespace(stack=lambda z: heart(float(z[0, 0]), shrink=1))
    population = types.SimpleNamespace(
        stacks=names,
        latents=radius[:, None, None].astype(float),
        indices=[clinical_indices(label, SPACING) for label in labels],
        members=lambda group: np.flatnonzero([n.group == group for n in names]),
        extent=lambda number: SPACING,
    )
    object.__setattr__(model, "space", space)
    object.__setattr__(model, "population", population)
    monkeypatch.setattr(pathology, "disease_statistics", lambda model, disease: None)
    end = np.full((1, 1), 27.0)
    monkeypatch.setattr(
        pathology, "draw_latents", lambda rng, statistics, count: np.stack([end] * count)
    )
    found, pictures = pathology.shift(model, "DCM", 0, count=3)
    assert len(found.probability) == pathology.STEPS and list(pictures) == ["path_DCM"]
    assert found.probability[0] < 0.2 and found.probability[-1] > 0.8
    # On average half of the way is where neither is likelier.
    assert 0.2 < found.probability[5] < 0.8
    assert found.probability_spearman == pytest.approx(1) and found.change["lv_volume"] > 1
    end[:] = 17.0  # away from the disease
    back, _ = pathology.shift(model, "DCM", 0, count=3)
    assert back.probability_spearman < 0 and back.probability[-1] < found.probability[0]
