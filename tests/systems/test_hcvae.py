"""Volumes from planes: the bound, what must not leak, the arms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.pipeline import training_stream
from jaxmedgen.experiments.reconstruction.scoring import EVERY_SET
from jaxmedgen.ops.collectives import all_mean, batch_axis
from jaxmedgen.systems import base, latent
from jaxmedgen.systems.shape import hcvae
from jaxmedgen.train.step import make_step
from tests.systems.hcvae_toys import batch_of, fresh, inputs_of, tiny, variables_of


def test_training_lowers_the_loss():
    _, sources, system = tiny("arm=cvae,views=axial", optimizer__learning_rate="3e-3")
    stream = training_stream(sources.train, batch_size=4, seed=0, num_threads=0)
    state, found = fresh(system), []
    step = jax.jit(make_step(system.objectives(), system.players(), prepare=system.prepare))
    for _ in range(40):
        state, metrics = step(state, next(stream))
        found.append(float(metrics["reconstruction"]))
    assert np.mean(found[-4:]) < 0.7 * np.mean(found[:4])


def test_devices_agree():
    """View dropout, batch norm and noise of the global batch are one device's."""
    _, sources, system = tiny("arm=cvae-dropout,views=axial+sagittal")
    batch, variables = batch_of(sources.train), variables_of(system)
    keys = jax.random.split(jax.random.key(3), 4)

    def value(batch, keys):
        inputs = inputs_of(variables, {**system.prepare(batch, keys), "index": batch["index"]})
        loss, outputs = system._loss(inputs.replace(keys=keys))
        return jax.tree.map(all_mean, (loss, outputs.metrics)), outputs.variables

    one = jax.jit(value)(batch, keys)
    halves = jax.tree.map(lambda x: x.reshape(2, 2, *x.shape[1:]), (batch, keys))
    with batch_axis("batch"):
        many = jax.pmap(value, axis_name="batch", devices=jax.devices()[:2])(*halves)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many)):
        np.testing.assert_allclose(b[0], a, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(b[0], b[1])
    kept = jax.jit(system.prepare)(batch, keys)["available"]
    assert 4 < kept[:, :2].sum() < 8  # some lack the second view


def test_the_loss_is_the_bound_and_nothing_leaks_at_test():
    _, sources, system = tiny("arm=hcvae-deep,views=axial+sagittal", criterion__warm_up="10")
    batch = batch_of(sources.train)
    hole = batch["available"].at[:, 1:].set(0.0)
    poisoned = jnp.where(jnp.asarray([0, 1, 1]) > 0, jnp.nan, batch["planes"])

    variables = variables_of(system)
    params = dict(variables[hcvae.PLAYER]["params"])
    params["volume"] = jax.tree.map(jnp.zeros_like, params["volume"])
    blind = {hcvae.PLAYER: {**variables[hcvae.PLAYER], "params": params}}

    @jax.jit
    def train(variables):
        inputs = inputs_of(variables, batch, step=5)
        found, _ = system.net.apply(
            variables[hcvae.PLAYER], batch["planes"], batch["available"], 
            system.target(batch)[..., 0], system.noise(inputs.keys), True, mutable=["batch_stats"],
        )  # fmt: skip
        return system._loss(inputs), found

    @jax.jit
    def generate(variables, planes, available, scale):
        latents = system.prior_levels(variables, scale, {"planes": planes, "available": available})
        return system.decode_levels(variables, latents, {"planes": planes, "available": available})[
            ..., 0
        ]

    (value, outputs), found = train(variables)
    volume = batch["label"]
    none = {name: jnp.zeros((4, size)) for name, size in system.levels.items()}
    some = {name: jnp.ones((4, size)) for name, size in system.levels.items()}
    build = jax.jit(system.build_volume)
    built = [
        build(variables, batch["planes"], hole),
        build(blind, poisoned, hole),
        build(variables, batch["planes"], batch["available"]),
    ]
    np.testing.assert_allclose(generate(variables, poisoned, hole, none), built[0], atol=1e-5)
    drawn = generate(variables, poisoned, hole, some)
    assert isinstance(system, latent.CanGenerate) and isinstance(system, base.CanShow)

    def cross_entropy(logits):
        p, x = expit(np.asarray(logits, np.float64)), np.asarray(volume, np.float64)
        return -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum() / 4

    kl = 0.0
    for (m, lv), (n, lw) in zip(found.posteriors, found.priors):
        m, lv, n, lw = (np.asarray(x, np.float64) for x in (m, lv, n, lw))
        kl += 0.5 * (np.exp(lv - lw) + (m - n) ** 2 / np.exp(lw) - 1 + lw - lv).sum() / 4
    fit = cross_entropy(found.logits)
    assert fit > 200 and kl > 0.1  # 512 voxels of about log 2: a sum
    expected = fit + 0.25 * sum(map(cross_entropy, found.partial)) + 0.5 * kl
    assert len(found.partial) == 1
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    np.testing.assert_allclose(outputs.metrics["elbo"], -fit - kl, rtol=1e-4)
    np.testing.assert_array_equal(built[0], built[1])
    assert np.abs(built[0] - built[2]).max() > 1e-4
    assert np.isfinite(drawn).all() and np.abs(drawn - built[0]).max() > 1e-4


@pytest.mark.parametrize(("argument", "levels", "missing", "dropout", "prior"), [
    ("arm=hcvae", ((0,), (0, 1), (0, 1, 2)), "null", "nested", "learned"),
    ("arm=hcvae,dropout=any", ((0,), (0, 1), (0, 1, 2)), "null", "any", "learned"),
    ("arm=hcvae-reversed", ((2,), (2, 1), (2, 1, 0)), "null", "nested", "learned"),
    ("arm=hcvae-no-dropout", ((0,), (0, 1), (0, 1, 2)), "null", "none", "learned"),
    ("arm=cvae", ((0, 1, 2),), "zero", "none", "standard"),
    ("arm=cvae,views=axial", ((0,),), "zero", "none", "standard"),
    ("arm=cvae,views=axial+sagittal", ((0, 1),), "zero", "none", "standard"),
    ("arm=cvae-dropout", ((0, 1, 2),), "null", "nested", "learned"),
    ("arm=cvae-learned", ((0, 1, 2),), "zero", "none", "learned"),
])  # fmt: skip
def test_arms_are_what_they_say(argument, levels, missing, dropout, prior):
    config = load_config(f"hcvae:gpu,{argument}")
    info = build_sources(load_config("hcvae:cpu", {"data.train": "1", "data.test": "0"}).data).info
    system = base.build_system(config, info)
    assert tuple(system.net.levels) == levels and system.net.planes.missing == missing
    assert system.task.dropout == dropout and system.net.latent.prior == prior
    assert system.noise_size == (24 * len(levels) if "hcvae" in argument else 64)
    assert system.task.augmentation.translation == pytest.approx(7 / 96)
    assert system.net.decoder.shape == (96, 96, 96)


@pytest.mark.parametrize(("argument", "handled"), [
    ("arm=hcvae", {(0,), (0, 1), (0, 1, 2)}),
    ("arm=hcvae,dropout=any", {(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)}),
    ("arm=tl-net", {(0, 1, 2)}),
    ("arm=cvae,views=axial", {(0,), (0, 1), (0, 2), (0, 1, 2)}),
])  # fmt: skip
def test_a_model_knows_what_it_can_do_without(argument, handled):
    _, _, system = tiny(argument)
    assert {views for views in EVERY_SET if system.handles(views)} == handled


def test_settings_that_do_not_fit_are_refused():
    for settings, message in (
        ({"model__view_dropout": "often"}, r"view_dropout='often'"),
        ({"model__views": "(0, 0)"}, "give each view once"),
        ({"model__latents": "(8, 8)"}, r"latents=\(8, 8\) for 3 latent level"),
        ({"criterion__reconstruction": "l2"}, "reconstruction='l2'"),
        ({"model__kind": "diffusion"}, "model.kind='diffusion'"),
    ):
        with pytest.raises(ValueError, match=message):
            tiny("arm=hcvae", **settings)
    with pytest.raises(ValueError, match="no 32 components"):
        tiny("arm=pca", model__components="32")
