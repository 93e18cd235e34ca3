"""Ladder VAE of shapes with a classifier: the loss written out, gradients, devices, arms."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.pipeline import training_stream
from jaxmedgen.data.sources import ArraySource, subset
from jaxmedgen.experiments.evaluation import loss_validator
from jaxmedgen.experiments.shape_generation import batch_of
from jaxmedgen.systems import base, latent
from jaxmedgen.systems.shape.lvae_criterion import ShapeCriterion, shape_loss
from jaxmedgen.systems.shape.lvae_levels import PREDICTOR, VAE
from jaxmedgen.train.interrupt import StopSignal
from jaxmedgen.train.objectives import LossInputs
from jaxmedgen.train.parallel import ParallelSettings
from tests.train.test_parallel import run as parallel_run

SMALL = {
    "data.shape": "(16, 16, 16)",
    "data.train": "8",
    "data.test": "2",
    "net.features": "(2,)",
    "net.squeeze": "2",
    "net.predictor": "8",
}


@functools.cache
def small(argument="lvae:cpu,arm=levels2", **overrides):
    """Configuration, sources and system of a small problem: two levels, one stage."""
    overrides = {k.replace("__", "."): v for k, v in overrides.items()}
    config = load_config(argument, SMALL | overrides)
    sources = build_sources(config.data)
    return config, sources, base.build_system(config, sources.info)


def flat(sources, system):
    """A slice through every heart, and the system in two dimensions, which compiles quickly."""
    records = [{**r, "image": r["image"][8]} for r in (sources.train[i] for i in range(8))]
    net = system.net.clone(shape=(16, 16))
    return ArraySource(records, sources.train.info), dataclasses.replace(system, net=net)


@functools.cache
def started():
    """Slices, the system of two levels in two dimensions, and its first state."""
    slices, system = flat(*small()[1:])
    return slices, system, jax.jit(system.init)(jax.random.key(0), {})


def test_records_without_a_class_or_without_foreground_are_refused():
    _, sources, system = small()
    record = sources.train[0]
    system.check_record(record)
    for target in (-1, system.predictor.classes):
        with pytest.raises(ValueError, match=f"'target' has labels .{target}.: give classes from"):
            system.check_record({**record, "target": np.int32(target)})
    image = record["image"].copy()
    image[..., 1] = 0
    with pytest.raises(ValueError, match=r"mask of channel 1 .from 0. is empty"):
        system.check_record({**record, "image": image})


def test_training_lowers_the_loss():
    _, sources, system = small(optimizer__learning_rate="0.02")

    def stream():
        return training_stream(sources.train, batch_size=8, seed=0, num_threads=0)

    steps, _ = parallel_run(system, ParallelSettings(data=1), 20, make_stream=stream)
    assert steps[-1]["reconstruction"] < steps[0]["reconstruction"] - 0.05
    assert steps[-1]["cross_entropy"] < steps[0]["cross_entropy"]
    abilities = (latent.CanGenerate, base.CanClassify, base.CanReconstruct)
    assert all(isinstance(system, ability) for ability in abilities)


def test_the_loss_is_what_the_paper_says_and_reaches_the_encoder():
    slices, system, state = started()
    criterion = ShapeCriterion((2.0, 0.1), 0.5, 0.2, 10)
    system = dataclasses.replace(system, criterion=criterion)
    alone = dataclasses.replace(system, criterion=dataclasses.replace(criterion, joint=False))
    records = slices.records[:4]
    batch = {name: jnp.stack([r[name] for r in records]) for name in records[0]}
    keys = jax.random.split(jax.random.key(1), 4)

    @jax.jit
    def look(variables):
        inputs = LossInputs(variables, {}, batch, keys, keys[0], jnp.int32(5))
        noise = system._noise(keys)
        found = system.net.apply(
            variables[VAE], batch["image"], noise, True, mutable=["batch_stats"]
        )[0]
        mean = found.posteriors["z1"][0]
        scores = system.predictor.apply(variables[PREDICTOR], mean, True, mutable=["batch_stats"])[
            0
        ]

        def added(variables):
            given = inputs.replace(variables=variables)
            value, outputs = system._loss(given)
            return value - alone._loss(given)[0], (value, outputs)

        return found, scores, jax.value_and_grad(added, has_aux=True)(variables)

    found, scores, result = look(base.evaluation_variables(state))
    (extra, (value, outputs)), gradient = result
    x, p = (np.asarray(a, np.float64) for a in (batch["image"], jax.nn.sigmoid(found.logits)))
    space = (1, 2)
    dice = (2 * (x * p).sum(space) + 1e-5) / (x.sum(space) + p.sum(space) + 1e-5)
    expected = (1 - dice).sum(1).mean()
    penalty = 0.0
    for alpha, name in zip(criterion.divergence, ("z0", "z1")):
        (m, lv), (pm, plv) = found.posteriors[name], found.priors[name]
        s, ps = np.exp(0.5 * np.asarray(lv, float)), np.exp(0.5 * np.asarray(plv, float))
        each = 0.5 * (((m - pm) ** 2 + s**2) / ps**2 - 1 + 2 * np.log(ps / s))
        kl = each.sum(1).mean()
        penalty += alpha * kl
        assert outputs.metrics[f"used_{name}"] == (each.mean(0) > 0.05).sum()
        np.testing.assert_allclose(outputs.metrics[f"kl_{name}"], kl, rtol=1e-4, atol=1e-5)
    chance = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    entropy = -np.log(np.take_along_axis(chance, np.asarray(batch["target"])[:, None], 1)).mean()
    # lambda rises from 0.2 to 1 in ten steps: 0.6 at the fifth.
    np.testing.assert_allclose(value, expected + 0.6 * (penalty + 0.5 * entropy), rtol=1e-4)
    # Without the joint training the cross-entropy is missing; its gradient is the encoder's.
    np.testing.assert_allclose(extra, 0.6 * 0.5 * entropy, rtol=1e-3)
    norm = lambda tree: float(sum(jnp.abs(x).sum() for x in jax.tree.leaves(tree)))  # noqa: E731
    parts = gradient[VAE]["params"]
    assert norm(parts["encoder"]) > 1e-5 and norm(parts["decoder"]) < 1e-5
    assert norm(gradient[PREDICTOR]["params"]) > 1e-5


def test_numbers_do_not_depend_on_the_number_of_devices():
    """Batch statistics, drawn vectors and augmentation of two devices are those of one."""
    settings = {"augment__preset": "shapes", "optimizer__learning_rate": "0.0003"}
    _, sources, system = small("lvae:cpu,arm=vae2", **settings)
    assert system.augmentation is not None
    slices, system = flat(sources, system)

    def stream():
        return training_stream(slices, batch_size=8, seed=0, num_threads=0)

    one, many = (
        parallel_run(system, ParallelSettings(data=n), 2, make_stream=stream)[0] for n in (1, 2)
    )
    for a, b in zip(one, many):
        for name in a:
            np.testing.assert_allclose(b[name], a[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_validation_counts_classes_and_not_subjects():
    """Its loss is the criterion at full weights; two healthy subjects weigh as much as six."""
    slices, system, state = started()
    system = dataclasses.replace(system, criterion=ShapeCriterion((2.0, 0.1), 0.5, 0.2, 10))
    chosen = subset(slices, (0, 2, 1, 3, 5, 7))
    batch = batch_of(chosen, range(6))
    found = loss_validator(system, chosen)(state, 0, StopSignal())["loss"]

    @jax.jit
    def parts(variables):
        image = batch["image"]
        return (
            system.reconstruct(variables, image),
            system.divergences(variables, batch),
            system.classify(variables, image),
        )

    decoded, kl, chance = parts(base.evaluation_variables(state))
    x, p = np.asarray(batch["image"], np.float64), np.asarray(decoded, np.float64)
    space = (1, 2)
    loss = (1 - (2 * (x * p).sum(space) + 1e-5) / (x.sum(space) + p.sum(space) + 1e-5)).sum(1)
    loss += 2.0 * np.asarray(kl["z0"]).sum(1) + 0.1 * np.asarray(kl["z1"]).sum(1)
    loss -= 0.5 * np.log(np.asarray(chance)[np.arange(6), batch["target"]])
    np.testing.assert_allclose(found, (loss[:2].mean() + loss[2:].mean()) / 2, rtol=1e-5)


@pytest.mark.parametrize(("argument", "latents", "objectives"), [
    ("lvae:cpu,arm=plain", (32, 16, 2), 1), ("lvae:cpu,arm=levels2", (32, 2), 1),
    ("lvae:cpu,arm=vae2-free", (2,), 1), ("lvae:gpu", (64, 32, 2), 1),
    ("hcm_vae:cpu,arm=two-stage", (64,), 2), ("hcm_vae:cpu,arm=cnn", (64,), 1),
    ("hcm_vae:gpu,arm=ae-mlp", (64,), 1), ("lvae:cpu,data=hippocampus", (32, 16, 2), 1),
])  # fmt: skip
def test_arms_are_what_they_say(argument, latents, objectives):
    config = load_config(argument)
    channels = ("hippocampus",) if "hippocampus" in argument else ("ED", "ES")
    info = base.DatasetInfo(tuple(config.targets), channels, (3.5,) * 3, ())
    system = base.build_system(config, info)
    assert system.net.latents == latents and len(system.objectives()) == objectives
    assert system.net.merge == ("concatenate" if "plain" in argument else "precision")
    assert system.criterion.reconstruction == ("cnn" not in argument)
    shapes = jax.eval_shape(system.init, jax.random.key(0), {})
    assert set(shapes.players) == {VAE, PREDICTOR}
    count = sum(x.size for x in jax.tree.leaves(shapes.players[VAE].params))
    assert 1e5 < count < 1e6


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="choose mean or sample"):
        ShapeCriterion((1.0,), predict_from="z")
    with pytest.raises(ValueError, match="0 or more"):
        ShapeCriterion((-1.0,))
    with pytest.raises(ValueError, match="'flips': choose none or shapes"):
        small(augment__preset="flips")
    with pytest.raises(ValueError, match="one weight a level"):
        small("lvae:cpu", criterion__divergence="(0.1,)")


def test_the_loss_of_shapes_by_hand():
    """Two voxels of two channels; a filled cavity that is sure of itself still has a slope."""
    x = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
    logits = jnp.log(jnp.array([[[3.0, 1.0], [1.0, 1.0]]]))  # p = 3/4, 1/2; 1/2, 1/2
    loss, dice = shape_loss(x, logits, 0.5)
    np.testing.assert_allclose(dice[0], [1.5 / 2.25, 0.5], rtol=1e-4)
    entropy = (np.log(4 / 3) + np.log(2)) / 2 + np.log(2)
    np.testing.assert_allclose(loss[0], (2 - 1.5 / 2.25 - 0.5) + 0.5 * entropy, rtol=1e-4)
    sure = jnp.full((1, 2, 2), 30.0)
    slopes = [jax.grad(lambda y, w=w: shape_loss(x, y, w)[0].sum())(sure) for w in (0.0, 0.5)]
    assert jnp.abs(slopes[0]).max() < 1e-8 < 0.1 < slopes[1][0, 1, 0]
