"""GenSeg: who trains whom, which image sees which skips, parity over devices, arms, learning."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.pipeline import training_stream
from jaxmedgen.ops.collectives import all_mean, batch_axis
from jaxmedgen.systems import base
from jaxmedgen.train.objectives import LossInputs
from jaxmedgen.train.step import make_step

SMALL = {
    "data.train": "64",
    "data.validation": "8",
    "data.test": "8",
    "data.shape": "(16, 16)",
    "data.glyph": "12",
    "data.piece": "4",
    "data.clutter": "2",
    "data.labelled": "0.5",
    "data.labelled_kind": "-1",
    "batch_size": "8",
    "net.features": "(4, 8)",
    "net.unique": "2",
    "net.residual_taps": "3",
    "net.discriminator": "(4,)",
    "net.scales": "1",
    "net.estimator": "(8,)",
    "steps": "100",
}
QUICKLY = {"xla_backend_optimization_level": 0}
"""These programs run a few times: compiling them well would take longer."""


@functools.cache
def small(argument="arm=proposed", **overrides):
    """Configuration, sources and system of a small problem."""
    overrides = {k.replace("__", "."): v for k, v in overrides.items()}
    config = load_config(f"genseg:cpu,{argument}", SMALL | overrides)
    sources = build_sources(config.data)
    return config, sources, base.build_system(config, sources.info)


def stream_of(sources):
    return training_stream(sources.train, batch_size=8, seed=0, num_threads=0)


PLAIN = {"net__spectral": "False"}  # power iterations would double what is compiled
SHORT = PLAIN | {"loss__weights__cycle": "0.0"}  # a term like the others


def test_devices_agree():
    """The generator's terms on two devices are those on one: Dice, permuted codes are global."""
    _, sources, system = small("arm=mine", **SHORT, loss__weights__adversarial="0.0")
    batch = jax.tree.map(jnp.asarray, next(stream_of(sources)))
    batch["has_mask"] = jnp.array([1.0, 0, 1, 1, 0, 0, 0, 0])  # other shares on the devices
    keys = jax.random.split(jax.random.key(1), 8)

    def losses(variables, batch, keys, axis=None):
        with batch_axis(axis):
            ready = {**system.prepare(batch, keys), "index": batch["index"]}
            inputs = LossInputs(variables, {}, ready, keys, keys[0], jnp.zeros((), jnp.int32))
            value, outputs = system.objectives()[-1].loss(inputs)
            return jax.tree.map(all_mean, (value, outputs.metrics))

    def start(batch):
        state = system.init(jax.random.key(0), batch)
        return {n: p.evaluation_variables() for n, p in state.players.items()}

    variables = jax.jit(start, compiler_options=QUICKLY)(batch)
    one = jax.jit(losses, compiler_options=QUICKLY)(variables, batch, keys)
    halves, half_keys = jax.tree.map(lambda x: x.reshape(2, 4, *x.shape[1:]), (batch, keys))
    mapped = jax.pmap(
        functools.partial(losses, axis="devices"),
        axis_name="devices",
        in_axes=(None, 0, 0),
        devices=jax.devices()[:2],
    )
    both = mapped(variables, halves, half_keys)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(both)):
        np.testing.assert_allclose(b, np.full(2, a), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def prepared():
    """System with all terms, variables, a prepared batch and inputs of the losses."""
    _, sources, system = small("arm=mine", loss__reversal="0.1", **SHORT)
    batch = jax.tree.map(jnp.asarray, next(stream_of(sources)))
    keys = jax.random.split(jax.random.key(1), 8)

    def make(batch):
        state = system.init(jax.random.key(0), batch)
        variables = {n: p.evaluation_variables() for n, p in state.players.items()}
        return variables, {**system.prepare(batch, keys), "index": batch["index"]}

    variables, batch = jax.jit(make, compiler_options=QUICKLY)(batch)
    inputs = LossInputs(variables, {}, batch, keys, jax.random.key(2), jnp.zeros((), jnp.int32))
    return system, variables, batch, inputs


def test_the_discriminators_loss_does_not_touch_the_generator(prepared):
    """It has no gradient there; no player is updated twice."""
    system, variables, _, inputs = prepared
    judge = system.objectives()[0]
    names = [name for objective in system.objectives() for name in objective.updates]
    assert sorted(names) == sorted(system.players())

    def gradient(params):
        full = {n: {**v, "params": params[n]} for n, v in variables.items()}
        return judge.loss(inputs.replace(variables=full))[0]

    params = {n: v["params"] for n, v in variables.items()}
    found = jax.jit(jax.grad(gradient), compiler_options=QUICKLY)(params)
    used = {n: any(np.any(x) for x in jax.tree.leaves(g)) for n, g in found.items()}
    assert [name for name in used if used[name]] == ["discriminator"]


@pytest.mark.parametrize("argument", ["arm=proposed", "arm=mine", "arm=segmentation"])
def test_micro_batches_are_refused(argument):
    """Dice of a batch jointly and one power iteration a step: both need the whole batch."""
    system = small(argument, **SHORT)[2]
    with pytest.raises(ValueError, match=r"accumulate=2: '\w+' sees the whole batch.*accumulate=1"):
        make_step(system.objectives(), system.players(), accumulate=2)


def test_a_step_trains_every_player(prepared):
    """One whole step: finite, and all of every player has moved."""
    system, _, batch, _ = prepared
    step = make_step(system.objectives(), system.players())

    def run(batch):
        state = system.init(jax.random.key(0), batch)
        after, metrics = step(state, batch)
        old, new = ({n: p.params for n, p in s.players.items()} for s in (state, after))
        return jax.tree.map(lambda a, b: jnp.abs(a - b).max(), old, new), metrics

    moved, metrics = jax.jit(run, compiler_options=QUICKLY)(batch)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((moved, metrics)))
    assert set(moved) == {"generator", "discriminator", "estimator", "reversal"}
    for player in moved.values():
        assert np.mean([m > 0 for m in jax.tree.leaves(player)]) > 0.9


def test_translations_add_residuals_to_the_right_images(prepared):
    """Sums are not squashed; what is added to A depends on A and u, never on P."""
    system, variables, batch, _ = prepared
    weights = variables["generator"]

    def run(present, absent, prior):
        return system.net.apply(
            weights, present, absent, prior, batch["domain"], method="translate"
        )

    def look(present, absent, prior):
        made = run(present, absent, prior)
        code, skips = system.net.apply(weights, absent, method="encode")
        common, _ = system.net.parts(code)
        removed = system.net.apply(weights, code, skips, method="remove")
        added = system.net.apply(weights, common, prior, skips, batch["domain"], method="residue")
        alone = removed + added
        reach = [
            jnp.abs(jax.grad(lambda x: run(*x).x_ap.sum())((present, absent, prior))[i]).max()
            for i in range(3)
        ]
        return made, alone, reach

    images = (batch["image"], batch["absent"], batch["prior"])
    made, alone, reach = jax.jit(look, compiler_options=QUICKLY)(*images)
    np.testing.assert_allclose(made.x_ap, alone, atol=1e-5)
    assert reach[0] == 0 and reach[1] > 0 and reach[2] > 0
    assert np.abs(alone).max() > 0.5  # so far out, tanh of the sum would show
    assert np.abs(np.asarray(made.x_pa)).max() <= 1


VARIANTS = {
    "arm=separate": {},
    "arm=staged,skips=places": {},
    "arm=multi_domain,switch=layer": {"data__domains": "2"},
    "arm=multi_domain,switch=adaptive,cycle=pap": {"data__domains": "2"},
    "arm=unsplit,skips=sum": {},
    "arm=proposed,cycle=pap,gan=relativistic,skips=concatenate": {"loss__penalty": "1.0"},
    "arm=multi_domain,gan=relativistic": {"data__domains": "2", "loss__penalty": "1.0"},
    "arm=autoencoder": {},
    "arm=mean_teacher": {},
}


@pytest.mark.parametrize("argument", VARIANTS)
def test_variants_have_finite_steps_and_their_abilities(argument):
    """Shapes of a whole step by abstract evaluation, so that nothing is compiled."""
    _, sources, system = small(argument, **VARIANTS[argument])
    classes = sources.info.num_classes
    batch = jax.tree.map(jnp.asarray, next(stream_of(sources)))
    keys = jax.random.split(jax.random.key(0), 8)

    def step(batch):
        state = system.init(jax.random.key(0), batch)
        variables = {n: {"params": p.params, **p.variables} for n, p in state.players.items()}
        ema = {n: p.ema for n, p in state.players.items() if p.ema is not None}
        ready = {**system.prepare(batch, keys), "index": batch["index"]}
        inputs = LossInputs(variables, ema, ready, keys, keys[0], state.step)
        found = {o.name: o.loss(inputs) for o in system.objectives()}
        losses = [loss for loss, _ in found.values()]
        changed = {n: v for _, outputs in found.values() for n, v in outputs.variables.items()}
        return losses, changed, system.predict(variables, batch["image"])

    losses, changed, probabilities = jax.eval_shape(step, batch)
    assert all(loss.shape == () for loss in losses)
    # Vectors of the spectral norms move on in every network that has them.
    spectral = set(system.players()) - {"estimator", "reversal"}
    assert {name for name, parts in changed.items() if parts.get("spectral")} == spectral
    assert probabilities.shape == (8, 16, 16, classes)
    translates = isinstance(system, base.CanTranslate)
    assert translates == ("autoencoder" not in argument and "mean" not in argument)
    if translates:
        assert len(system.domain_names) == (3 if "multi" in argument else 2)
        assert ("segmenter" in system.players()) == ("separate" in argument or "staged" in argument)


def test_information_is_measured_without_being_minimised():
    """A critic and its bounds, and no such term in the generator's loss."""
    _, sources, system = small(loss__measure_information="True", **SHORT)
    batch = jax.tree.map(jnp.asarray, next(stream_of(sources)))
    keys = jax.random.split(jax.random.key(0), 8)

    def metrics(batch):
        state = system.init(keys[0], batch)
        variables = {n: {"params": p.params, **p.variables} for n, p in state.players.items()}
        ready = {**system.prepare(batch, keys), "index": batch["index"]}
        inputs = LossInputs(variables, {}, ready, keys, keys[0], state.step)
        return {o.name: o.loss(inputs)[1].metrics for o in system.objectives()}

    found = jax.eval_shape(metrics, batch)
    assert set(found["estimator"]) == {"information_present", "information_added"}
    assert "latent" in found["generator"] and "information" not in found["generator"]
    assert "estimator" not in small(**SHORT)[2].players()


def test_three_dimensions_step():
    """Volumes with a finding and without, through the whole generator's loss."""
    config, sources, _ = small()
    info = dataclasses.replace(sources.info, spacing=(1.0, 1.0, 1.0))
    system = base.build_system(config, info)
    batch = {
        "image": jnp.zeros((2, 8, 10, 9, 1)),
        "absent": jnp.zeros((2, 8, 10, 9, 1)),
        "label": jnp.zeros((2, 8, 10, 9), jnp.int32),
    }
    keys = jax.random.split(jax.random.key(0), 2)

    def step(batch):
        state = system.init(keys[0], batch)
        variables = {n: p.evaluation_variables() for n, p in state.players.items()}
        ready = system.prepare(batch, keys)
        inputs = LossInputs(variables, {}, ready, keys, keys[0], state.step)
        loss = system.objectives()[-1].loss(inputs)[0]
        return loss, system.translate(variables, keys, batch["image"], "presence")

    loss, made = jax.eval_shape(step, batch)
    assert loss.shape == () and made.shape == batch["image"].shape


def test_segmentation_alone_learns():
    """Soft Dice of the labelled images rises."""
    settings = {"optimizer__learning_rate": "0.01", **PLAIN}
    _, sources, system = small("arm=segmentation", **settings)
    batches = stream_of(sources)
    batch = next(batches)
    state = jax.jit(system.init, compiler_options=QUICKLY)(jax.random.key(0), batch)
    step = make_step(system.objectives(), system.players(), prepare=system.prepare)
    step = jax.jit(step, compiler_options=QUICKLY)
    dice = []
    for _ in range(60):
        state, metrics = step(state, batch)
        dice.append(-float(metrics["segmentation"]))
        batch = next(batches)
    known = [value for value in dice if value > 0]
    assert np.mean(known[-10:]) > np.mean(known[:10]) + 0.1


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"net\.domains=2"):
        small("arm=multi_domain", data__domains="1")
    with pytest.raises(ValueError, match=r"net\.unique=8"):
        small(net__unique="8")
    _, _, system = small()
    batch = {"image": jnp.zeros((2, 16, 16, 1)), "label": jnp.zeros((2, 16, 16), jnp.int32)}
    with pytest.raises(ValueError, match="cluttered_digits, hemispheres or findings"):
        system.prepare(batch, jax.random.split(jax.random.key(0), 2))
