"""The segmentation system: parity over devices and processes, learning, mixtures of images."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.pipeline import training_stream
from jaxmedgen.systems.base import CanPredict, CanSample, System, build_system
from jaxmedgen.train.parallel import ParallelSettings
from tests.train.test_parallel import LAYOUTS
from tests.train.test_parallel import run as parallel_run

TINY = {
    "data.kind": "shapes",
    "data.shape": "(16, 16, 16)",
    "data.train": "16",
    "data.validation": "2",
    "data.test": "2",
    "net.features": "(4, 8)",
    "steps": "100",
    "batch_size": "8",
    # Larger rates amplify rounding: parity is of the arithmetic, not of a chaotic trajectory.
    "optimizer.learning_rate": "0.0003",
}
FLAT = {"data.shape": "(16, 16)"}
"""What is alike in two and three dimensions is tested in two, which compile quickly."""


@functools.cache
def tiny(arm="classic", **overrides):
    """Configuration, sources and system of a tiny 3D problem."""
    config = load_config(f"unet:cpu,arm={arm}", TINY | overrides)
    sources = build_sources(config.data)
    return config, sources, build_system(config, sources.info)


@functools.cache
def smooth(**overrides):
    """The same with a smooth activation.

    At the kink of a rectifier, rounding alone turns single voxels of the gradient from one slope to
    the other, which the norm of a tiny network's gradient shows at 3e-5.
    """
    _, sources, system = tiny(**overrides)
    net = system.net.clone(activation=jax.nn.silu)
    return sources, dataclasses.replace(system, net=net)


def run(layout, steps=20, **overrides):
    """Metrics of every step, with a smooth activation."""
    sources, system = smooth(**overrides)

    def stream():
        return training_stream(sources.train, batch_size=8, seed=0, num_threads=0)

    return parallel_run(system, layout, steps, make_stream=stream)[0]


@pytest.fixture(scope="module")
def one_device():
    return run(ParallelSettings(data=1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parity_of_the_unet_with_augmentation(one_device, layout):
    """20 steps in 3D with the classic augmentation give one device's metrics to 1e-5."""
    expected, found = one_device, run(LAYOUTS[layout])
    for step, (a, b) in enumerate(zip(expected, found)):
        for name in a:
            np.testing.assert_allclose(
                b[name], a[name], rtol=1e-5, atol=1e-5, err_msg=f"{name}, step {step}"
            )
    assert expected[-1]["loss"] < expected[0]["loss"]


def test_parity_of_batch_norm_and_synthesis():
    """Global batch statistics, and images made within the step."""
    keywords = {"arm": "synthesis", "net.norm": "batch", **FLAT}
    one = run(ParallelSettings(data=1), steps=6, **keywords)
    many = run(ParallelSettings(backend="pmap", data=4), steps=6, **keywords)
    for a, b in zip(one, many):
        np.testing.assert_allclose(b["loss"], a["loss"], rtol=1e-4)


def test_abilities_are_found_by_protocol():
    _, _, system = tiny()
    assert isinstance(system, System)
    assert isinstance(system, CanPredict)
    assert isinstance(system, CanSample)


def test_synthesis_alone_needs_no_images():
    config, sources, _ = tiny("synthesis", **{"augment.synthesis_probability": "1.0"})
    info = dataclasses.replace(sources.info, channel_names=())
    system = build_system(config, info)
    label = jnp.asarray(sources.train[0]["label"])[None]
    batch = {"label": label, "index": jnp.zeros(1, jnp.int32)}
    state = jax.jit(system.init)(jax.random.key(0), batch)
    made = jax.jit(system.prepare)(batch, jax.random.split(jax.random.key(1), 1))
    assert made["image"].shape == (1, 16, 16, 16, 1)
    probabilities = jax.jit(system.predict)(
        {n: p.evaluation_variables() for n, p in state.players.items()}, made["image"]
    )
    np.testing.assert_allclose(probabilities.sum(-1), 1.0, rtol=1e-5)


def test_label_maps_without_synthesis_are_refused():
    config, sources, _ = tiny()
    info = dataclasses.replace(sources.info, channel_names=())
    with pytest.raises(ValueError, match="synthesis_probability=1"):
        build_system(config, info)


def test_real_and_synthetic_images_mix_by_sample():
    _, sources, system = tiny("synthesis", **FLAT)
    stream = training_stream(sources.train, batch_size=16, seed=0, num_threads=0)
    batch = next(stream)
    system = dataclasses.replace(
        system, augmentation=lambda keys, image, label: (jnp.full_like(image, 7.0), label)
    )
    made = jax.jit(system.prepare)(batch, jax.random.split(jax.random.key(1), 16))
    real = np.asarray((made["image"] == 7.0).all(axis=(1, 2, 3)))
    assert 2 <= real.sum() <= 14
    np.testing.assert_array_equal(made["label"][real], batch["label"][real])


def test_finer_generation_labels_are_merged():
    overrides = {"data.target_of": "(0, 1, 1)", "data.target_names": "('background', 'shape')"}
    _, sources, system = tiny("synthesis", **FLAT, **overrides)
    assert sources.info.class_names == ("background", "shape")
    assert system.net.classes == 2
    assert max(sources.train[i]["label"].max() for i in range(4)) == 2
    assert max(sources.test[i]["label"].max() for i in range(2)) == 1
    stream = training_stream(sources.train, batch_size=8, seed=0, num_threads=0)
    made = jax.jit(system.prepare)(next(stream), jax.random.split(jax.random.key(1), 8))
    assert int(made["label"].max()) == 1
