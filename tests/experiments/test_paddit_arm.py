"""PADDIT's arms: no leakage, models shared and read again, matched controls."""

import dataclasses
import json
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.augment.policy import Augmentation
from jaxmedgen.augment.presets import preset
from jaxmedgen.augment.spatial import displacements, sample_spatial
from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.phantoms.population import Population
from jaxmedgen.data.sources import ImagesOnly, in_memory, subset
from jaxmedgen.experiments import paddit_arm
from jaxmedgen.experiments.arms import ARMS, ArmInputs, prepare_arm, select_arms
from jaxmedgen.systems.base import build_system
from jaxmedgen.train.interrupt import Interrupted

SIZE = {"data.shape": "(16, 16)", "data.train": "6", "data.validation": "1", "data.test": "1"}
KINDS = [kind for kinds in typing.get_args(paddit_arm.Kind) for kind in typing.get_args(kinds)]


@pytest.fixture(autouse=True, scope="module")
def compilation_cache():
    before = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture(scope="module")
def arms(tmp_path_factory):
    """Arms prepared for subjects 1, 3 and 4, what was trained on, and the inputs."""
    config = load_config("paddit_segmentation:cpu", SIZE)
    labelled = subset(build_sources(config.data).train, (1, 3, 4))
    folder = tmp_path_factory.mktemp("arms")
    inputs = ArmInputs(config, labelled, folder / "own", 0, folder / "seed0")
    seen, real_config, real_train = [], paddit_arm.model_config, paddit_arm.train

    def quick(*arguments):
        made = real_config(*arguments)
        with made.unlocked():
            made.steps, made.model.rounds, made.model.map_rounds = 3, 2, 1
            made.model.sampling.update(
                chains=1, draws=4, thinning=1, leapfrog_steps=2, map_steps=10
            )
        return made

    def train(config, sources, *rest, **keywords):
        seen.append(sources)
        return real_train(config, sources, *rest, **keywords)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(paddit_arm, "model_config", quick)
        patched.setattr(paddit_arm, "train", train)
        names = ("paddit", "paddit-cross", "paddit-generic", "paddit-prior")
        made = {name: prepare_arm(ARMS[name], inputs) for name in names}
        (joined,) = select_arms(["paddit-cross+classic"]).values()
        made["joined"] = prepare_arm(joined, inputs)
    return made, seen, inputs


def test_the_model_sees_the_labelled_subjects_and_nobody_else(arms):
    _, seen, inputs = arms
    for sources in seen:
        assert sources.train.info.case_names == inputs.labelled.info.case_names
        assert len(sources.validation) == len(sources.test) == 0


def test_arms_share_a_model_and_its_cost(arms):
    made, seen, inputs = arms
    assert len(seen) == 4, "paddit-prior needs no model"
    assert [p.name for p in inputs.shared.iterdir()] == ["paddit"]
    seconds = {name: cost for name, (_, cost) in made.items()}
    assert seconds["paddit"] == seconds["paddit-cross"] == seconds["paddit-generic"] > 0
    assert seconds["paddit-prior"] == 0
    draws = [made[name][0].augmentation.draws for name in ("paddit", "paddit-cross")]
    np.testing.assert_array_equal(*draws)


def test_a_preset_is_joined(arms):
    made, *_ = arms
    training, _ = made["joined"]
    assert training.changes["augment.preset"] == "classic"
    policy, alone = training.augmentation.policy, made["paddit-cross"][0].augmentation.policy
    assert policy == preset("classic", (1.0, 1.0), classes=policy_classes(arms)) != alone
    np.testing.assert_array_equal(
        training.augmentation.draws, made["paddit-cross"][0].augmentation.draws
    )


def test_unlabelled_subjects_come_after_the_labelled(arms):
    """Their samples have the last rows; their labels are empty, whatever the source knows."""
    *_, inputs = arms
    others = ImagesOnly(subset(build_sources(inputs.config.data).train, (0,)))
    both = paddit_arm._with_unlabelled(inputs.labelled, others)
    assert both.info.case_names == (*inputs.labelled.info.case_names, *others.info.case_names)
    assert [bool(both[i]["label"].any()) for i in range(4)] == [True, True, True, False]
    np.testing.assert_array_equal(both[3]["image"], others[0]["image"])


def policy_classes(arms):
    return arms[2].labelled.info.num_classes


def test_generic_deformations_are_as_large_as_the_samples(arms):
    made, *_ = arms
    keys = jax.random.split(jax.random.key(7), 300)
    model = made["paddit"][0].augmentation
    spatial = made["paddit-generic"][0].augmentation.spatial

    @jax.jit
    def sizes(keys):
        own = model.displacement(jnp.arange(300) % 3, keys)
        (other,) = displacements(spatial, sample_spatial(spatial, keys), (16, 16))
        return [jnp.sqrt(jnp.mean(jnp.sum(u**2, -1), (1, 2))) for u in (own, other)]

    own, other = (np.asarray(x) for x in sizes(keys))
    assert 0.35 < (other > 0).mean() < 0.65
    rms = [np.sqrt(np.mean(x**2)) for x in (own, other[other > 0])]
    assert rms[0] == pytest.approx(rms[1], rel=0.15)


def test_generic_deformations_keep_the_size_on_a_preset_s_grid(arms):
    """genseg2d has another grid, other locked layers and another distribution."""
    made, *_ = arms
    elastic = preset("genseg2d", (1.0, 1.0), classes=2).spatial
    model = dataclasses.replace(
        made["paddit"][0].augmentation, policy=Augmentation(spatial=elastic)
    )
    spatial = paddit_arm.generic(model, (16, 16), 0, count=200).spatial
    keys = jax.random.split(jax.random.key(7), 200)

    @jax.jit
    def sizes(keys):
        own = model.displacement(jnp.arange(200) % 3, keys)
        (other,) = displacements(spatial, sample_spatial(spatial, keys), (16, 16))
        return [jnp.sqrt(jnp.mean(jnp.sum(u**2, -1), (1, 2))) for u in (own, other)]

    own, other = (np.asarray(x) for x in sizes(keys))
    rms = [np.sqrt(np.mean(x**2)) for x in (own, other[other > 0])]
    assert rms[0] == pytest.approx(rms[1], rel=0.1)
    kept = ("elastic_controls", "elastic_locked", "elastic_distribution", "rotation", "border")
    assert all(getattr(spatial, name) == getattr(elastic, name) for name in kept)


def test_the_segmenter_tells_the_arm_its_subjects(arms):
    """In the step: the same images and keys, but the samples of other subjects."""
    made, _, inputs = arms
    always = dataclasses.replace(made["paddit"][0].augmentation, probability=1.0)
    system = build_system(inputs.config, inputs.labelled.info)
    system = dataclasses.replace(system, augmentation=always)
    records = [inputs.labelled[k] for k in (2, 0)]
    batch = {n: jnp.stack([jnp.asarray(r[n]) for r in records]) for n in ("image", "label")}
    batch["index"] = jnp.array([0, 1])
    keys = jax.random.split(jax.random.key(0), 2)
    prepare = jax.jit(lambda case: system.prepare({**batch, "case": case}, keys)["image"])
    own, same, other = (np.asarray(prepare(jnp.array(c))) for c in ((2, 0), (2, 1), (1, 0)))
    np.testing.assert_array_equal(own[0], same[0])
    np.testing.assert_array_equal(own[1], other[1])
    assert np.abs(own[1] - same[1]).max() > 1e-3
    assert np.abs(own[0] - other[0]).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("shape", "draws"), [((16, 16), 20), ((16, 16, 16), 10)])
def test_every_kind_has_a_model_of_images_and_of_volumes(kind, shape, draws):
    labelled = in_memory(Population(3, shape))
    system = build_system(paddit_arm.model_config(labelled, 0, kind), labelled.info)
    assert (system.sampler, system.sampling.draws) == (
        ("map", 1) if kind == "map" else ("hmc", draws)
    )


def test_modes_of_volumes_make_the_map_arm(tmp_path, monkeypatch):
    """Without a sampler: one draw a subject, the mode; nothing is said of chains."""
    labelled = in_memory(Population(2, (16, 16, 16)))
    config = load_config("ablation", {"paddit.iterations": "5"})
    real = paddit_arm.model_config

    def quick(*arguments):
        made = real(*arguments)
        with made.unlocked():
            made.model.sampling.map_steps = 2
        return made

    monkeypatch.setattr(paddit_arm, "model_config", quick)
    training = ARMS["paddit-map"].prepare(ArmInputs(config, labelled, tmp_path, 0, tmp_path / "m"))
    assert training.augmentation.draws.shape[:2] == (2, 1)
    assert not any("chains" in text or "samples" in text for text in training.warnings)


def test_a_study_says_how_long_its_models_sample():
    labelled = in_memory(Population(3, (16, 16, 16)))

    def made(kind="posterior", **settings):
        return paddit_arm.model_config(labelled, 0, kind, settings)

    assert made(thinning=0, iterations=0).to_dict() == made().to_dict()
    longer = made(chains=3, draws=30, thinning=7, iterations=20)
    sampling = longer.model.sampling
    assert (sampling.chains, sampling.draws, sampling.thinning) == (3, 30, 7)
    assert (longer.steps, longer.model.rounds, longer.model.map_rounds) == (20, 18, 16)
    assert made("map", draws=30).model.sampling.draws == 1
    with pytest.raises(ValueError, match=r"paddit.iterations=4 must be more than 4"):
        made(iterations=4)


def test_settings_of_a_study_reach_the_model(monkeypatch, arms):
    *_, inputs = arms
    names = ("ablation", "paddit_segmentation", "augmentations")
    configs = [load_config(name, {"paddit.thinning": "9", "patch_size": "()"}) for name in names]
    given = []

    def stop(labelled, workdir, seed, kind, settings, **_):
        given.append(settings["thinning"])
        raise KeyboardInterrupt

    monkeypatch.setattr(paddit_arm, "fit_model", stop)
    for config in configs:
        with pytest.raises(KeyboardInterrupt):
            ARMS["paddit"].prepare(dataclasses.replace(inputs, config=config))
    assert given == [9] * 3


def test_a_stopped_training_is_not_forgotten(tmp_path, monkeypatch):
    """What it took is kept, for the call that goes on to add to."""

    def stopped(config, sources, system, folder, **_):
        folder.mkdir()
        raise Interrupted

    monkeypatch.setattr(paddit_arm, "train", stopped)
    with pytest.raises(Interrupted):
        paddit_arm.fit_model(in_memory(Population(2, (16, 16))), tmp_path, 0, "posterior")
    stored = json.loads((tmp_path / "paddit" / "seconds.json").read_text())
    assert stored["seconds"] > 0 and not stored["finished"]


def test_what_looks_wrong_with_samples_is_named():
    good = {"step": 12, "rhat": 1.05, "ess": 30.0, "folding": 0.0}
    bad = {"step": 12, "rhat": 1.87, "ess": 3.2, "folding": 0.015}
    assert paddit_arm.sample_warnings([bad, good]) == ()
    rhat, ess, folding = paddit_arm.sample_warnings([good, bad])
    assert "R-hat 1.87 > 1.1" in rhat and "size 3 < 10" in ess and "fold at 0.015 %" in folding
    assert paddit_arm.sample_warnings([{**bad, "rhat": None, "ess": None, "folding": 0.0}]) == ()


def test_the_arm_tells_what_looks_wrong(arms):
    """A handful of transitions cannot have mixed: the report is told."""
    made, *_ = arms
    assert any("effective sample size" in text for text in made["paddit"][0].warnings)
    assert made["paddit-cross"][0].warnings == made["paddit"][0].warnings
    assert made["paddit-prior"][0].warnings == ()


def test_the_preset_leaves_the_background_alone(arms):
    *_, inputs = arms
    config = load_config("paddit_segmentation:cpu", SIZE | {"augment.background": "-3.0"})
    (joined,) = select_arms(["paddit-prior+classic"]).values()
    made = joined.prepare(dataclasses.replace(inputs, config=config))
    assert made.augmentation.policy.background == -3


def test_patches_are_refused(arms):
    _, _, inputs = arms
    config = load_config("paddit_segmentation:cpu", SIZE | {"patch_size": "(8, 8)"})
    with pytest.raises(ValueError, match="deform whole images, not patches"):
        paddit_arm.train_paddit(config, inputs.labelled, inputs.shared, 0, "posterior")
