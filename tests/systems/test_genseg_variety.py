"""A residual decoder that does not look at u is told from one that does."""

import jax
import jax.numpy as jnp

from jaxmedgen.systems.translation.genseg_sides import sides
from jaxmedgen.systems.translation.genseg_variety import variety
from jaxmedgen.train.objectives import LossInputs
from tests.systems.test_genseg import QUICKLY, SHORT, small, stream_of


def test_a_generator_that_ignores_u_has_no_style_diversity():
    _, sources, system = small("arm=proposed", **SHORT)
    batch = jax.tree.map(jnp.asarray, next(stream_of(sources)))
    keys = jax.random.split(jax.random.key(1), 8)

    def measured(listens):
        state = system.init(jax.random.key(0), batch)
        variables = {n: p.evaluation_variables() for n, p in state.players.items()}
        params = variables["generator"]["params"]
        first = params["residual"]["block0"]["conv"]
        heard = jnp.where(listens, first["kernel"], first["kernel"].at[..., -2:, :].set(0))
        conv = {**first, "kernel": heard}
        residual = {**params["residual"], "block0": {"conv": conv}}
        variables["generator"] = {"params": {**params, "residual": residual}}
        ready = {**system.prepare(batch, keys), "index": batch["index"]}
        inputs = LossInputs(variables, {}, ready, keys, keys[0], jnp.zeros((), jnp.int32))
        made, _ = system._translations(inputs)
        side = sides(ready, made, placed=False)["presence"]
        return variety(system, inputs, made, side)

    compiled = jax.jit(measured, compiler_options=QUICKLY)
    listens, ignores = compiled(True), compiled(False)
    assert listens["style_diversity"] > 0.01 > ignores["style_diversity"]
    assert ignores["diversity"] > 0.05
