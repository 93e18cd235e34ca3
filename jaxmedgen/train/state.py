"""The training state: a step counter, one key, and named players.

A *player* is whatever one optimiser owns: a segmenter, a generator, a discriminator. The state is
a pytree of arrays and nothing else; optimisers and losses live in the objectives (`objectives.py`).
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Int, Key

from jaxmedgen.train.objectives import PlayerSettings
from jaxmedgen.types import Leaf, Variables


@struct.dataclass
class Player:
    """Everything that belongs to one player.

    Attributes:
        params: trained parameters.
        opt_state: state of the player's optax optimiser.
        ema: exponential moving average of `params`, or None where it is off.
        variables: the other flax collections (batch statistics, spectral-norm vectors, ...).
    """

    params: Leaf
    opt_state: Leaf
    ema: Leaf
    variables: Leaf

    def evaluation_variables(self) -> Variables:
        """Flax variables for prediction: averaged parameters where there are any."""
        params = self.params if self.ema is None else self.ema
        return {"params": params, **self.variables}


@struct.dataclass
class TrainState:
    """A whole run at one step.

    Attributes:
        step: number of finished steps, int32 scalar.
        key: the run's typed key; never advanced, steps and samples are folded in
            (`sample_keys`).
        players: players by name.
        halted: the first step with a non-finite loss or gradient, or -1; int32 scalar. While it
            is set every update is the identity: the state stays that of the last good step.
    """

    step: Leaf
    key: Leaf
    players: dict[str, Player]
    halted: Leaf


def create_state(
    key: Key[Array, ""],
    variables: Mapping[str, Variables],
    players: Mapping[str, PlayerSettings],
) -> TrainState:
    """A fresh state from each player's initial flax variables.

    Args:
        key: the run's key.
        variables: initialised flax variables by player name, each with a ``params`` collection.
        players: optimiser and averaging settings by player name.

    Raises:
        ValueError: the two mappings name different players.
    """
    if set(variables) != set(players):
        raise ValueError(
            f"variables are given for players {sorted(variables)} but settings for "
            f"{sorted(players)}: name the same players in both"
        )
    created = {}
    for name, settings in players.items():
        rest = {k: v for k, v in variables[name].items() if k != "params"}
        params = variables[name]["params"]
        created[name] = Player(
            params=params,
            opt_state=settings.optimizer.init(params),
            ema=None if settings.ema_decay is None else jax.tree.map(jnp.copy, params),
            variables=rest,
        )
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=key,
        players=created,
        halted=jnp.full((), -1, jnp.int32),
    )


def sample_keys(
    key: Key[Array, ""], step: Int[Array, ""] | int, index: Int[Array, " b"]
) -> Key[Array, " b"]:
    """One key a sample, a function of (seed, step, global sample index) alone.

    The same sample of the same step so draws the same numbers on any number of devices and after
    a resume.
    """
    step_key = jax.random.fold_in(key, step)
    return jax.vmap(lambda i: jax.random.fold_in(step_key, i))(index)
