"""The texture classifier with CubeNet: it trains, and answers alike to turned cubes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.ops.groups import act_on_image
from jaxmedgen.systems.base import build_system, evaluation_variables
from jaxmedgen.train.step import make_step

TINY = {
    "data.shape": "(10, 10, 10)",
    "data.train": "4",
    "data.test": "1",
    "net.channels": "8",
    "net.stages": "3",
    "net.hidden": "8",
    "net.dropout": "0.2",
}


def test_a_step_lowers_the_loss_and_turns_do_not_matter():
    config = load_config("lri:cpu,arm=cube-v", TINY)
    sources = build_sources(config.data)
    system = build_system(config, sources.info)
    records = [sources.train[i] for i in range(4)]
    batch = {n: jnp.stack([jnp.asarray(r[n]) for r in records]) for n in ("image", "label")}
    batch["index"] = jnp.arange(4)
    step = jax.jit(make_step(system.objectives(), system.players(), prepare=system.prepare))
    state, losses = jax.jit(system.init)(jax.random.key(0), batch), []
    for _ in range(6):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0]
    variables = evaluation_variables(state)
    image = batch["image"][:1]
    turned = jnp.concatenate([act_on_image(image, m) for m in system.net.group.matrices])
    found = np.asarray(jax.jit(system.classify)(variables, turned))
    np.testing.assert_allclose(found, np.broadcast_to(found[0], found.shape), atol=1e-5)
    assert found.std(1).max() > 1e-3


def test_groups_that_exchange_unequal_axes_are_refused():
    config = load_config("lri:cpu,arm=cube-o", TINY)
    info = build_sources(config.data).info
    thick = type(info)(info.class_names, info.channel_names, (1.0, 1.0, 3.0), ())
    with pytest.raises(ValueError, match="spacing"):
        build_system(config, thick)
