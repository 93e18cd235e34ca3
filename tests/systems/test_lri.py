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

TINY_TEXTURES = {k: v for k, v in TINY.items() if k.startswith("data.")}


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


@pytest.mark.parametrize(
    ("arm", "filters", "channels", "weights"),
    [
        ("ssb", 2, 10, 2 * 3 * 7),  # 7 radii for 7 taps, one profile a degree
        ("sse", 2, 6, 2 * 3 * 7),
        ("s,rotations=24", 2, 2, 2 * 3 * 7 + 2 * 9),
        ("s,rotations=72,degree=1", 2, 2, 2 * 2 * 7 + 2 * 4),
        ("g", 2, 2, 2 * 7**3),
        ("plain", 3, 3, 3 * 3**3),
    ],
)
def test_every_layer_is_an_arm_with_as_many_weights_as_its_formula_has(
    arm, filters, channels, weights
):
    """One layer, a bias a channel, a linear layer for two classes."""
    config = load_config(f"lri:cpu,arm={arm}")
    info = build_sources(load_config("lri:cpu", TINY_TEXTURES).data).info
    system = build_system(config, info)
    assert system.net.layer.filters == filters
    shape = jax.ShapeDtypeStruct((1, 10, 10, 10, 1), jnp.float32)
    shapes = jax.eval_shape(system.net.init, jax.random.key(0), shape)
    found = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert found == weights + channels + (2 * channels + 2)


def test_one_profile_may_serve_all_degrees():
    settings = {"net.polar_separable": "True"}
    info = build_sources(load_config("lri:cpu", TINY_TEXTURES).data).info
    system = build_system(load_config("lri:cpu,arm=sse", settings), info)
    shape = jax.ShapeDtypeStruct((1, 10, 10, 10, 1), jnp.float32)
    shapes = jax.eval_shape(system.net.init, jax.random.key(0), shape)
    assert shapes["params"]["layer"]["radial"].shape == (1, 2, 1, 7)


def test_the_published_recipe_is_that_of_the_large_size():
    config = load_config("lri:gpu,arm=ssb,degree=1")
    optimizer = config.optimizer
    assert (optimizer.learning_rate, optimizer.b1, optimizer.b2) == (1e-3, 0.99, 0.9999)
    assert (config.batch_size, config.steps, config.net.degree) == (16, 50000, 1)
    assert (config.net.kernel_size, config.net.filters) == (7, 2)
    assert config.data.shape == (32, 32, 32) and config.data.train + config.data.test == 1000
