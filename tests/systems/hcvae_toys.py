"""Small models of volumes from planes, and states of them that nobody has to compile."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.experiments.reconstruction.scoring import stacked
from jaxmedgen.systems import base
from jaxmedgen.train.objectives import LossInputs

TINY = {
    "data.shape": "(8, 8, 8)",
    "data.train": "8",
    "data.test": "2",
    "batch_size": "4",
    "net.features": "(4,)",
    "net.decoder": "(4, 4)",
    "net.embedding": "4",
    "net.volume_features": "8",
    "net.hidden": "8",
    "net.prior_hidden": "8",
    "net.judge": "(4,)",
    "model.components": "3",
    "model.pixels": "4",
}


@functools.cache
def tiny(argument, **overrides):
    """Configuration, sources and system of a small problem."""
    overrides = {k.replace("__", "."): v for k, v in overrides.items()}
    config = load_config(f"hcvae:cpu,{argument}", TINY | overrides)
    sources = build_sources(config.data)
    return config, sources, base.build_system(config, sources.info)


def batch_of(source, count=4):
    cases = stacked(source)
    return {k: jnp.asarray(v[:count]) for k, v in cases.items()} | {"index": jnp.arange(count)}


def inputs_of(variables, batch, step=0):
    keys = jax.random.split(jax.random.key(7), len(batch["index"]))
    return LossInputs(variables, {}, batch, keys, jax.random.key(0), jnp.int32(step))


def fresh(system):
    """A state with random weights that nobody has to compile: drawn by numpy."""
    rng = np.random.default_rng(0)

    def draw(leaf):
        return jnp.asarray(0.3 * rng.standard_normal(leaf.shape), jnp.float32)

    def zero(leaf):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        return jnp.zeros(leaf.shape, leaf.dtype)

    shapes = jax.eval_shape(lambda key: system.init(key, {}), jax.random.key(0))
    players = {
        name: player.replace(
            params=jax.tree.map(draw, player.params),
            opt_state=jax.tree.map(zero, player.opt_state),
            variables=jax.tree.map(lambda leaf: 1 + zero(leaf), player.variables),
        )
        for name, player in shapes.players.items()
    }
    state = jax.tree.map(zero, shapes.replace(players={}))
    return state.replace(players=players, halted=jnp.int32(-1))


def variables_of(system):
    return base.evaluation_variables(fresh(system))
