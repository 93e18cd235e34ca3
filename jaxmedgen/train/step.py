"""Objectives -> one training step: the only place where gradients are taken.

Gradients, accumulation, averaging over devices, the moving average of the weights and the
non-finite guard are written once, here, for every system.

Gradients under `jax.pmap`: each device differentiates its own copy of the loss and the results are
averaged. That is right for a loss that is a mean over the local batch, and also for one built on
`all_sum` / `all_mean`: the transpose of a `psum` is a `psum`, so each device's gradient carries the
cotangents of all N copies of the (equal) loss, N times too much, and the mean divides it out.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from jaxmedgen.ops.collectives import all_mean
from jaxmedgen.train.objectives import (
    LossInputs,
    LossOutputs,
    Objective,
    PlayerSettings,
    Update,
    check_accumulation,
    check_objectives,
)
from jaxmedgen.train.state import Player, TrainState, sample_keys
from jaxmedgen.types import Batch, Params

Prepare = Callable[[Batch, Key[Array, " b"]], Batch]
Metrics = dict[str, Float[Array, ""]]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def make_step(
    objectives: tuple[Objective | Update, ...],
    players: Mapping[str, PlayerSettings],
    *,
    prepare: Prepare | None = None,
    accumulate: int = 1,
) -> Step:
    """Builds ``step(state, batch) -> (state, metrics)``, to be compiled by `parallel.py`.

    Objectives run in order within a step, each seeing the parameters as the one before left them.

    Args:
        objectives: what is trained, by which loss.
        players: optimiser settings by player.
        prepare: on-device transform of the batch before the losses (augmentation), given one key
            a sample.
        accumulate: micro-batches a step; gradients are averaged over them. Must divide the batch,
            and be 1 with an `Update`, which has no gradients to average, and with a loss that needs
            the whole batch.

    Returns:
        A pure function. `batch` needs ``index``: int32 ``[b]``, the global sample index. Metrics
        are global means: ``loss``, ``grad_norm`` and the loss' own (with ``objective/`` in front
        where there are several objectives), and ``halted``.

    Raises:
        ValueError: objectives and players do not fit, or `accumulate` does not fit them.
    """
    check_objectives(objectives, players)
    check_accumulation(objectives, accumulate)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        good = state.halted < 0
        step_key = jax.random.fold_in(state.key, state.step)
        if prepare is not None:
            keys = sample_keys(jax.random.fold_in(step_key, 0), 0, batch["index"])
            batch = {**prepare(batch, keys), "index": batch["index"]}

        current, metrics = state.players, {}
        for number, objective in enumerate(objectives, start=1):
            key = jax.random.fold_in(step_key, number)

            def run(current, objective=objective, key=key):
                if isinstance(objective, Update):
                    return _replace(objective, current, state.step, batch, key)
                return _update(objective, players, current, state.step, batch, key, accumulate)

            if objective.every > 1:
                shapes = jax.eval_shape(run, current)
                skipped = jax.tree.map(lambda s: jnp.full(s.shape, jnp.nan, s.dtype), shapes[1])
                current, logged, finite = jax.lax.cond(
                    state.step % objective.every == 0,
                    run,
                    lambda current, skipped=skipped: (current, skipped, jnp.array(True)),
                    current,
                )
            else:
                current, logged, finite = run(current)
            good = good & finite
            prefix = f"{objective.name}/" if len(objectives) > 1 else ""
            metrics |= {prefix + name: value for name, value in logged.items()}

        current = {n: _average(p, players[n].ema_decay, state.step) for n, p in current.items()}
        # A bad step and all after it leave the state untouched, so that what is saved when the
        # host sees the flag - some steps late - is the state the failure came from.
        kept = jax.tree.map(lambda new, old: jnp.where(good, new, old), current, state.players)
        halted = jnp.where(good | (state.halted >= 0), state.halted, state.step)
        new_state = TrainState(
            step=state.step + good.astype(jnp.int32), key=state.key, players=kept, halted=halted
        )
        return new_state, {**metrics, "halted": halted.astype(jnp.float32)}

    return step


def _update(
    objective: Objective,
    settings: Mapping[str, PlayerSettings],
    players: dict[str, Player],
    step: Int[Array, ""],
    batch: Batch,
    key: Key[Array, ""],
    accumulate: int,
) -> tuple[dict[str, Player], Metrics, Bool[Array, ""]]:
    """One objective: gradients, then one optimiser update of each of its players."""
    keys = sample_keys(key, 0, batch["index"])
    grads, loss, outputs = _gradients(objective, players, step, batch, keys, key, accumulate)
    norm = optax.tree.norm(grads)
    updated = dict(players)
    for name, variables in outputs.variables.items():
        updated[name] = updated[name].replace(variables={**players[name].variables, **variables})
    for name in objective.updates:
        player = updated[name]
        updates, opt_state = settings[name].optimizer.update(
            grads[name], player.opt_state, player.params
        )
        updated[name] = player.replace(
            params=optax.apply_updates(player.params, updates), opt_state=opt_state
        )
    metrics = {"loss": loss, "grad_norm": norm, **outputs.metrics}
    return updated, metrics, jnp.isfinite(loss) & jnp.isfinite(norm)


def _replace(
    update: Update,
    players: dict[str, Player],
    step: Int[Array, ""],
    batch: Batch,
    key: Key[Array, ""],
) -> tuple[dict[str, Player], Metrics, Bool[Array, ""]]:
    """One update that takes no gradients: new parameters and variables as it returns them."""
    keys = sample_keys(key, 0, batch["index"])
    variables = {n: {"params": p.params, **p.variables} for n, p in players.items()}
    ema = {name: p.ema for name, p in players.items() if p.ema is not None}
    outputs = update.run(LossInputs(variables, ema, batch, keys, key, step))
    updated = dict(players)
    for name in update.updates:
        player = players[name]
        updated[name] = player.replace(
            params=outputs.params.get(name, player.params),
            variables={**player.variables, **outputs.variables.get(name, {})},
        )
    leaves = jax.tree.leaves([updated[name].params for name in update.updates])
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves]))
    return updated, outputs.metrics, finite


def _gradients(
    objective: Objective,
    players: dict[str, Player],
    step: Int[Array, ""],
    batch: Batch,
    keys: Key[Array, " b"],
    key: Key[Array, ""],
    accumulate: int,
) -> tuple[dict[str, Params], Float[Array, ""], LossOutputs]:
    """Gradients, loss and outputs, averaged over micro-batches and devices."""
    trained = {name: players[name].params for name in objective.updates}
    ema = {name: p.ema for name, p in players.items() if p.ema is not None}

    def loss(trained, variables, batch, keys, key):
        full = {n: {"params": trained.get(n, p.params), **variables[n]} for n, p in players.items()}
        value, outputs = objective.loss(LossInputs(full, ema, batch, keys, key, step))
        return value, outputs

    differentiate = jax.value_and_grad(loss, has_aux=True)
    variables = {name: p.variables for name, p in players.items()}
    if accumulate == 1:
        (value, outputs), grads = differentiate(trained, variables, batch, keys, key)
    else:
        parts = jax.tree.map(lambda x: _micro_batches(x, accumulate), (batch, keys))
        inner = jax.random.split(key, accumulate)

        def body(variables, part):
            (batch, keys), key = part
            (value, outputs), grads = differentiate(trained, variables, batch, keys, key)
            merged = {n: {**v, **outputs.variables.get(n, {})} for n, v in variables.items()}
            return merged, (grads, value, outputs.metrics)

        variables, stacked = jax.lax.scan(body, variables, (parts, inner))
        grads, value, metrics = jax.tree.map(lambda x: x.mean(0), stacked)
        outputs = LossOutputs(metrics=metrics, variables=variables)
    grads, value, metrics = jax.tree.map(all_mean, (grads, value, outputs.metrics))
    return grads, value, outputs.replace(metrics=metrics)


def _micro_batches(x: jax.Array, count: int) -> jax.Array:
    """``[b, ...] -> [count, b / count, ...]``, strided so that a sharded batch stays in place."""
    if x.shape[0] % count:
        raise ValueError(
            f"batch of {x.shape[0]} samples (per device) cannot be accumulated in {count} parts: "
            "make the batch size a multiple of accumulate"
        )
    return x.reshape(x.shape[0] // count, count, *x.shape[1:]).swapaxes(0, 1)


def _average(player: Player, decay: float | None, step: Int[Array, ""]) -> Player:
    """Moving average of the parameters, with a short horizon in the first steps."""
    if decay is None:
        return player
    rate = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    ema = jax.tree.map(lambda a, p: rate * a + (1 - rate) * p, player.ema, player.params)
    return player.replace(ema=ema)
