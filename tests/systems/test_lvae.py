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
from jaxmedgen.systems import base
from jaxmedgen.systems.shape.lvae import PREDICTOR, VAE
from jaxmedgen.systems.shape.lvae_criterion import ShapeCriterion
from jaxmedgen.train.objectives import LossInputs
from jaxmedgen.train.parallel import ParallelSettings
from tests.train.test_parallel import run as parallel_run

SMALL = {
    "data.shape": "(16, 16, 16)",
    "data.train": "8",
    "data.test": "2",
    "net.features": "(2, 4)",
    "net.squeeze": "2",
    "net.predictor": "8",
}


@functools.cache
def small(argument="lvae:cpu", **overrides):
    """Configuration, sources and system of a small problem."""
    overrides = {k.replace("__", "."): v for k, v in overrides.items()}
    config = load_config(argument, SMALL | overrides)
    sources = build_sources(config.data)
    return config, sources, base.build_system(config, sources.info)


def test_training_learns_and_devices_agree():
    """Batch norm, latent noise and Dice of the global batch are those of one device."""

    def history(layout, steps, **overrides):
        _, sources, system = small(**overrides)

        def stream():
            return training_stream(sources.train, batch_size=8, seed=0, num_threads=0)

        return parallel_run(system, layout, steps, make_stream=stream)

    one, state = history(ParallelSettings(data=1), 20, optimizer__learning_rate="0.02")
    calm = {"optimizer__learning_rate": "0.02"}
    many, _ = history(ParallelSettings(backend="pmap", data=2), 1, **calm)
    for name, value in one[0].items():
        np.testing.assert_allclose(many[0][name], value, rtol=2e-4, atol=1e-3, err_msg=name)
    assert one[-1]["reconstruction"] < one[0]["reconstruction"] - 0.05
    _, sources, system = small()
    variables = base.evaluation_variables(state)
    image = jnp.stack([sources.test[i]["image"] for i in range(2)])
    assert isinstance(system, base.CanGenerate | base.CanClassify | base.CanReconstruct)

    @jax.jit
    def look(variables):
        kept = [system.truncated(variables, image, k) for k in (1, 3)]
        return kept, system.reconstruct(variables, image), system.classify(variables, image)

    (top, whole), full, chance = look(variables)
    np.testing.assert_allclose(whole, full, atol=1e-5)
    assert float(jnp.abs(top - full).max()) > 1e-4
    np.testing.assert_allclose(chance.sum(-1), 1.0, rtol=1e-5)


def test_the_loss_is_what_the_paper_says_and_reaches_the_encoder():
    _, sources, system = small("lvae:cpu")
    criterion = ShapeCriterion((2.0, 0.1, 0.01), 0.5, 0.2, 10)
    system = dataclasses.replace(system, criterion=criterion)
    alone = dataclasses.replace(system, criterion=dataclasses.replace(criterion, joint=False))
    records = [sources.train[i] for i in range(4)]
    batch = {name: jnp.stack([r[name] for r in records]) for name in records[0]}
    keys = jax.random.split(jax.random.key(1), 4)

    @jax.jit
    def look(key):
        players = system.init(key, {}).players
        variables = {name: p.evaluation_variables() for name, p in players.items()}
        inputs = LossInputs(variables, {}, batch, keys, key, jnp.int32(5))
        noise = system._noise(keys)
        found = system.net.apply(
            variables[VAE], batch["image"], noise, True, mutable=["batch_stats"]
        )[0]
        mean = found.posteriors["z2"][0]
        scores = system.predictor.apply(variables[PREDICTOR], mean, True, mutable=["batch_stats"])[
            0
        ]

        both = [
            jax.grad(lambda v, part=part: part._loss(inputs.replace(variables=v))[0])(variables)
            for part in (system, alone)
        ]
        return system._loss(inputs), found, scores, both

    (value, outputs), found, scores, (joint, alone_) = look(jax.random.key(0))
    x, p = (np.asarray(a, np.float64) for a in (batch["image"], jax.nn.sigmoid(found.logits)))
    space = (1, 2, 3)
    dice = (2 * (x * p).sum(space) + 1e-5) / (x.sum(space) + p.sum(space) + 1e-5)
    expected = (1 - dice).sum(1).mean()
    penalty = 0.0
    for alpha, name in zip(criterion.divergence, ("z0", "z1", "z2")):
        (m, lv), (pm, plv) = found.posteriors[name], found.priors[name]
        s, ps = np.exp(0.5 * np.asarray(lv, float)), np.exp(0.5 * np.asarray(plv, float))
        kl = 0.5 * (((m - pm) ** 2 + s**2) / ps**2 - 1 + 2 * np.log(ps / s)).sum(1).mean()
        penalty += alpha * kl
        np.testing.assert_allclose(outputs.metrics[f"kl_{name}"], kl, rtol=1e-4, atol=1e-5)
    chance = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    entropy = -np.log(np.take_along_axis(chance, np.asarray(batch["target"])[:, None], 1)).mean()
    # lambda rises from 0.2 to 1 in ten steps: 0.6 at the fifth.
    np.testing.assert_allclose(value, expected + 0.6 * (penalty + 0.5 * entropy), rtol=1e-4)
    norm = lambda tree: float(sum(jnp.abs(x).sum() for x in jax.tree.leaves(tree)))  # noqa: E731
    assert norm(joint[PREDICTOR]["params"]) > 0 and norm(alone_[PREDICTOR]["params"]) == 0
    difference = jax.tree.map(jnp.subtract, joint[VAE]["params"], alone_[VAE]["params"])
    assert norm(difference["encoder"]) > 1e-6 and norm(difference["decoder"]) < 1e-6


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
    with pytest.raises(ValueError, match="one weight a level"):
        small("lvae:cpu", criterion__divergence="(0.1,)")
