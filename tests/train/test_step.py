"""The step: against hand-written optax, accumulation, lazy objectives, the non-finite guard."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmedgen.train.objectives import LossOutputs, Objective, PlayerSettings
from jaxmedgen.train.state import create_state, sample_keys
from jaxmedgen.train.step import make_step


def _linear_loss(inputs):
    w = inputs.variables["net"]["params"]["w"]
    error = inputs.batch["x"] @ w - inputs.batch["y"]
    return jnp.mean(error**2), LossOutputs(metrics={"mae": jnp.mean(jnp.abs(error))})


def _problem(batch=8):
    x = jax.random.normal(jax.random.key(1), (batch, 3))
    y = x @ jnp.array([1.0, -2.0, 0.5])
    return {"x": x, "y": y, "index": jnp.arange(batch)}


def _state(players, key=None):
    key = jax.random.key(0) if key is None else key
    return create_state(key, {"net": {"params": {"w": jnp.zeros(3)}}}, players)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_matches_hand_written_optax(accumulate):
    players = {"net": PlayerSettings(optax.adam(0.1), ema_decay=0.9)}
    step = jax.jit(
        make_step((Objective("fit", ("net",), _linear_loss),), players, accumulate=accumulate)
    )
    batch, state = _problem(), _state(players)
    w, tx = jnp.zeros(3), optax.adam(0.1)
    opt, ema = tx.init(w), jnp.zeros(3)
    for i in range(5):
        state, metrics = step(state, batch)
        value, g = jax.value_and_grad(lambda w: jnp.mean((batch["x"] @ w - batch["y"]) ** 2))(w)
        updates, opt = tx.update(g, opt, w)
        w = optax.apply_updates(w, updates)
        rate = min(0.9, (1 + i) / (10 + i))
        ema = rate * ema + (1 - rate) * w
        np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
    np.testing.assert_allclose(state.players["net"].params["w"], w, rtol=1e-5)
    np.testing.assert_allclose(state.players["net"].ema["w"], ema, rtol=1e-5)
    assert int(state.step) == 5 and int(state.halted) == -1


def test_lazy_objective_runs_every_kth_step():
    players = {"net": PlayerSettings(optax.sgd(1.0))}

    def push(inputs):
        return inputs.variables["net"]["params"]["w"].sum(), LossOutputs()

    step = jax.jit(make_step((Objective("push", ("net",), push, every=3),), players))
    state, ran = _state(players), []
    for _ in range(6):
        state, metrics = step(state, _problem())
        ran.append(bool(jnp.isfinite(metrics["loss"])))
    assert ran == [True, False, False, True, False, False]
    np.testing.assert_allclose(state.players["net"].params["w"], -2.0)


def test_halts_on_the_first_bad_step_and_keeps_the_state_before_it():
    players = {"net": PlayerSettings(optax.sgd(0.1))}
    step = jax.jit(make_step((Objective("fit", ("net",), _linear_loss),), players))
    state = _state(players)
    for _ in range(2):
        state, _ = step(state, _problem())
    before = np.asarray(state.players["net"].params["w"])
    bad = _problem() | {"y": jnp.full(8, jnp.inf)}
    state, metrics = step(state, bad)
    assert int(metrics["halted"]) == 2
    for _ in range(2):  # later good batches must not move it
        state, metrics = step(state, _problem())
    assert int(metrics["halted"]) == 2 and int(state.step) == 2
    np.testing.assert_array_equal(state.players["net"].params["w"], before)


def test_sample_keys_depend_on_sample_step_and_seed_only():
    index = jnp.array([5, 9, 2])
    keys = jax.random.key_data(sample_keys(jax.random.key(0), 7, index))
    alone = jax.random.key_data(sample_keys(jax.random.key(0), 7, index[1:2]))
    np.testing.assert_array_equal(keys[1], alone[0])
    other = jax.random.key_data(sample_keys(jax.random.key(0), 8, index))
    assert not np.array_equal(keys, other)
    assert len(np.unique(np.asarray(keys), axis=0)) == 3


def test_prepare_gets_one_key_a_sample_and_runs_before_the_loss():
    players = {"net": PlayerSettings(optax.sgd(0.0))}

    def prepare(batch, keys):
        noise = jax.vmap(lambda k: jax.random.normal(k, (3,)))(keys)
        return {**batch, "x": batch["x"] + noise}

    step = jax.jit(make_step((Objective("fit", ("net",), _linear_loss),), players, prepare=prepare))
    state, clean = _state(players), jnp.mean(_problem()["y"] ** 2)
    w = state.players["net"].params["w"].at[0].set(1.0)
    state = state.replace(players={"net": state.players["net"].replace(params={"w": w})})
    _, first = step(state, _problem())
    _, again = step(state, _problem())
    assert first["loss"] == again["loss"]
    assert not np.isclose(first["loss"], clean)


@pytest.mark.parametrize(
    ("objectives", "match"),
    [
        ((), "at least one"),
        ((Objective("a", ("nobody",), _linear_loss),), "nobody"),
        ((Objective("a", ("net",), _linear_loss, every=0),), "every=0"),
        ((Objective("a", ("net",), _linear_loss),) * 2, "repeat"),
    ],
)
def test_bad_objectives_are_named(objectives, match):
    with pytest.raises(ValueError, match=match):
        make_step(objectives, {"net": PlayerSettings(optax.sgd(0.1))})


def test_indivisible_accumulation_is_named():
    players = {"net": PlayerSettings(optax.sgd(0.1))}
    step = make_step((Objective("fit", ("net",), _linear_loss),), players, accumulate=3)
    with pytest.raises(ValueError, match="3 parts"):
        step(_state(players), _problem())
