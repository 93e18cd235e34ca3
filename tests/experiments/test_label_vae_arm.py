"""A sampler of new label maps from the labelled subjects of a run, and attributes of stacks."""

import dataclasses
import json
import types

import jax
import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.folders import FolderSource
from jaxmedgen.data.phantoms.short_axis import ShortAxis
from jaxmedgen.data.phantoms.short_axis_stack import ShortAxisStacks
from jaxmedgen.data.preprocess import Preprocessing
from jaxmedgen.data.sources import in_memory, subset
from jaxmedgen.data.stacks import Stack, read_stacks
from jaxmedgen.experiments import label_files, label_vae_arm, model_training
from jaxmedgen.experiments.label_files import LabelWishes, drawn_plausibly, write_subjects
from jaxmedgen.experiments.label_operators import operate
from jaxmedgen.experiments.label_space import LabelSpace
from jaxmedgen.experiments.label_synthesis import (
    finish,
    measure_population,
    rendered,
    synthesise,
    target_attribute,
)
from jaxmedgen.metrics.cardiac import clinical_indices
from jaxmedgen.metrics.plausibility import IndexRange
from jaxmedgen.systems.base import build_system


@pytest.fixture(autouse=True, scope="module")
def compilation_cache():
    before = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def quick(monkeypatch):
    """A few steps of a tiny network."""
    real_config = label_vae_arm._config

    def made(*arguments):
        config = real_config(*arguments)
        with config.unlocked():
            config.net.update(features=(4,), neck=8, latents=4)
        return config

    monkeypatch.setattr(label_vae_arm, "_config", made)
    monkeypatch.setattr(label_vae_arm, "_STAGES", 1)
    monkeypatch.setattr(label_vae_arm, "_BATCH", 4)


CONFIG = load_config("ablation", {"parallel.data": "1", "model_steps": "2"})


def untrained(config, sources, system, *arguments, **settings):
    """What `train` returns, without a step."""
    return types.SimpleNamespace(state=jax.jit(system.init)(jax.random.key(0), {}))


def test_slices_of_any_size_give_slices_and_stacks_give_stacks(quick, tmp_path, monkeypatch):
    slices = in_memory(ShortAxis(5, (33, 36), classes=8))
    sampler = label_vae_arm.train_label_vae(CONFIG, slices, tmp_path / "slices", 0)
    assert len(sampler.latents) == 5
    made = sampler(np.random.default_rng(0), 3)
    assert made.shape == (3, 33, 36) and made.dtype == np.int32
    assert 0 <= made.min() and made.max() <= 7
    np.testing.assert_array_equal(made, sampler(np.random.default_rng(0), 3))
    assert (tmp_path / "slices" / "metrics.jsonl").is_file()
    monkeypatch.setattr(model_training, "train", untrained)
    stacks = in_memory(ShortAxisStacks(2, (32, 32)))
    sampler = label_vae_arm.train_label_vae(CONFIG, stacks, tmp_path / "stacks", 0)
    assert sampler(np.random.default_rng(0), 1).shape == (1, 32, 32, 32)
    with pytest.raises(ValueError, match="no labelled subjects"):
        label_vae_arm.train_label_vae(CONFIG, subset(slices, ()), tmp_path / "none", 0)


SIDE = 32


def discs(radius):
    """Rings of blood and muscle with given radii, exact in the latent space of two numbers."""
    x = np.arange(SIDE) - 15.5
    distance = np.hypot(x[:, None], x)[None]
    radius = np.asarray(radius)[:, None, None]
    return np.where(distance < radius, 1, np.where(distance < radius + 3, 2, 0)).astype(np.int32)


@pytest.fixture(scope="module")
def population():
    """Hearts that are discs: the latent vector is (radius, 0), coded and decoded exactly."""

    def encode(label):
        area = np.asarray(label == 1).sum((1, 2))
        z = np.stack([np.sqrt(area / np.pi), np.zeros(len(area))], -1)
        return z, np.full_like(z, -20.0)

    space = LabelSpace(encode, lambda z: discs(np.asarray(z)[:, 0]), (SIDE, SIDE))
    rng = np.random.default_rng(0)
    stacks = []
    for k in range(16):
        group, base = ("NOR", 6.0) if k % 2 else ("DCM", 9.0)
        count = int(rng.integers(6, 14))
        radius = (base + rng.normal(0, 0.6)) * np.linspace(1, 0.5, count)
        stacks.append(Stack(discs(radius), (80 / count, 2.0, 2.0), f"s{k}", group))
    return measure_population(space, stacks)


def test_every_subject_has_32_slices_over_its_own_length(population):
    made = synthesise(population, "equalised", 3)
    (source,) = (s for s in population.stacks if s.name == made.sources[0])
    assert made.label.shape == (32, SIDE, SIDE) and made.label.dtype == np.uint8
    assert 31 * made.spacing[0] == pytest.approx((len(source.label) - 1) * source.spacing[0])
    assert made.plausible_slices == 1 and made.within_range in (True, False)


def test_equalised_hearts_are_compared_with_equalised_hearts(population):
    """Their 32 slices are shorter than the slabs of their own stacks, and hold less."""
    own = [clinical_indices(s.label, s.spacing) for s in population.stacks]
    usual = IndexRange.of(own)
    made = [
        finish(population, z, (k,), 0.0, "equalised", 0) for k, z in enumerate(population.latents)
    ]
    decoded = [clinical_indices(m.label.astype(np.int32), m.spacing) for m in made]
    volumes = [np.mean([i.lv_volume for i in found]) for found in (own, decoded)]
    assert volumes[1] < 0.97 * volumes[0]  # or else there is nothing to tell apart
    shares = [[usual.contains(i) for i in found] for found in (own, decoded)]
    assert np.mean(shares[1]) < np.mean(shares[0]) <= np.mean([m.within_range for m in made])
    expected = np.mean([i.vector() for i in decoded], axis=0)
    found = np.mean([i.vector() for i in population.indices], axis=0)
    np.testing.assert_allclose(found, expected, rtol=0.01)
    # Without a right ventricle this operator changes nothing, and its stacks keep their slices.
    names = [stack.name for stack in population.stacks]
    for seed in range(8):
        same = operate(population, "right_elastic", seed)
        k = names.index(same.sources[0])
        np.testing.assert_array_equal(same.label, population.stacks[k].label)
        assert same.within_range == population.range.contains(population.indices[k])


def test_diseased_subjects_are_dilated_and_coherent(population):
    made = [synthesise(population, "pathology", seed, disease="DCM") for seed in range(6)]
    healthy = [synthesise(population, "pathology", seed, disease="DCM", t=0.0) for seed in range(6)]
    volume = [
        np.mean([clinical_indices(s.label.astype(np.int32), s.spacing).lv_volume for s in group])
        for group in (healthy, made)
    ]
    assert volume[1] > 1.5 * volume[0]
    assert all(s.disease == "DCM" for s in made)
    with pytest.raises(ValueError, match="group 'HCM'"):
        synthesise(population, "pathology", 0, disease="HCM")


def test_rare_volumes_are_hit(population):
    values = np.asarray([i.lv_volume for i in population.indices])
    _, reached = target_attribute(population, 1, "lv_volume", 99.9)
    wanted = values.mean() + 3.0902 * values.std(ddof=1)
    assert reached > values.max()
    assert reached == pytest.approx(wanted, abs=0.05 * values.std(ddof=1))
    with pytest.raises(ValueError, match="percentile between"):
        target_attribute(population, 1, "lv_volume", 100)


def test_every_vendor_renders_the_same_labels(population):
    subject = synthesise(population, "between", 0)
    pairs = rendered(
        subject, {"A": lambda n: n[..., None] * 1.0, "B": lambda n: -n[..., None] * 1.0}
    )
    assert pairs["A"][0].vendor == "A" and pairs["B"][0].vendor == "B"
    np.testing.assert_array_equal(pairs["A"][0].label, pairs["B"][0].label)
    np.testing.assert_array_equal(pairs["A"][1], -pairs["B"][1])
    assert "label" not in subject.record() and len(subject.sources) == 2


def test_written_subjects_are_a_folder_that_is_read_again(population, tmp_path):
    subjects = [synthesise(population, "between", seed) for seed in range(2)]
    write_subjects(subjects, tmp_path)
    native = Preprocessing(spacing="native")
    source = FolderSource(tmp_path / "labels", native, contents="labels")
    for subject, stack in zip(subjects, read_stacks(source, axis=2)):
        np.testing.assert_array_equal(stack.label, subject.label)
    records = json.loads((tmp_path / "records.json").read_text())
    assert [tuple(r["sources"]) for r in records] == [s.sources for s in subjects]


def test_subjects_without_the_topology_of_a_heart_are_drawn_again(population):
    subject = synthesise(population, "between", 0)
    shares, seen = {3: 0.5, 5: 0.8, 7: 0.96, 9: 1.0}, []

    def draw(seed):
        seen.append(seed)
        path = [
            dataclasses.replace(subject, seed=seed, plausible_slices=s) for s in (1.0, shares[seed])
        ]
        return path

    made = drawn_plausibly(draw, (3, 5, 7, 9), LabelWishes(plausible=0.9))
    assert [s.seed for s in made] == [7, 7] and seen == [3, 5, 7]
    assert drawn_plausibly(draw, (3, 5), LabelWishes())[0].seed == 3
    with pytest.raises(ValueError, match=r"reached 0\.80 at most"):
        drawn_plausibly(draw, (3, 5), LabelWishes(plausible=0.9))


def test_neighbouring_seeds_have_no_subject_in_common(population, tmp_path, monkeypatch):
    monkeypatch.setattr(label_files, "open_population", lambda *_: population)
    sources = model_training.alone(in_memory(ShortAxis(1, shape=(32, 32), seed=0)))
    system = build_system(load_config("label_deformation:cpu"), sources.info)
    records = {}
    for folder, seed in (("zero", 0), ("one", 1), ("again", 0)):
        label_files.write_label_maps(sources, system, {}, tmp_path / folder, 4, seed)
        records[folder] = json.loads((tmp_path / folder / "records.json").read_text())
    assert records["zero"] == records["again"]
    drawn = [(r["t"], tuple(r["sources"])) for name in ("zero", "one") for r in records[name]]
    assert len(set(drawn)) == 8
    first = records["zero"][0]  # its record tells how it is drawn again
    assert synthesise(population, "between", first["seed"]).record()["t"] == first["t"]
    seeds = {label_files.draw_seed(s, n, k) for s in range(5) for n in range(5) for k in range(5)}
    assert len(seeds) == 125


def test_phases_are_populations_of_their_own(population):
    """Statistics of a disease at end systole have no subject at end diastole."""
    phases = [("ED", "ES")[i // 2 % 2] for i in range(len(population.stacks))]
    stacks = tuple(
        dataclasses.replace(s, phase=p, label=s.label if p == "ED" else discs([4] * len(s.label)))
        for s, p in zip(population.stacks, phases)
    )
    mixed = measure_population(population.space, stacks)
    assert mixed.phases == ("ED", "ES")
    for seed in range(4):
        made = synthesise(mixed, "pathology", seed, disease="DCM", phase="ES")
        area = (made.label == 1).sum((1, 2))
        assert made.phase == "ES" and np.all(area == (discs([4]) == 1).sum())
    drawn = {synthesise(mixed, "between", seed).phase for seed in range(8)}
    assert drawn == {"ED", "ES"}
