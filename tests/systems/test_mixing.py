"""Mixing of samples in the segmenter: same numbers on many devices, soft labels, the ramp."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.pipeline import training_stream
from jaxmedgen.systems.base import build_system
from jaxmedgen.train.parallel import ParallelSettings
from tests.train.test_parallel import run as parallel_run

TINY = {
    "data.kind": "shapes",
    "data.shape": "(16, 16)",
    "data.train": "16",
    "data.validation": "2",
    "data.test": "2",
    "net.features": "(4, 8)",
    "net.blocks": "1",
    "steps": "100",
    "batch_size": "8",
    "optimizer.learning_rate": "0.001",
}


@functools.cache
def tiny(preset, **overrides):
    settings = TINY | {"augment.preset": preset} | overrides
    config = load_config("unet:cpu,arm=none", settings)
    sources = build_sources(config.data)
    return sources, build_system(config, sources.info)


def losses(preset, layout, **overrides):
    sources, system = tiny(preset, **overrides)

    def stream():
        return training_stream(sources.train, batch_size=8, seed=0, num_threads=0)

    return [metrics["loss"] for metrics in parallel_run(system, layout, 4, make_stream=stream)[0]]


def test_devices_mix_the_same_samples():
    """Partners may live on other devices, and gradients flow through their moments."""
    preset = "interpolation+moex_pono"
    one = losses(preset, ParallelSettings(data=1))
    many = losses(preset, ParallelSettings(backend="pmap", data=4))
    np.testing.assert_allclose(many, one, rtol=2e-5)
    assert len(set(one)) == 4


def _prepared(preset, index=0, **overrides):
    sources, system = tiny(preset, **overrides)
    batch = dict(next(training_stream(sources.train, batch_size=8, seed=0, num_threads=0)))
    batch = {k: jnp.asarray(v) for k, v in batch.items()} | {"index": jnp.full(8, index)}
    return batch, jax.jit(system.prepare)(batch, jax.random.split(jax.random.key(0), 8)), system


def test_soft_labels_go_beside_the_integer_ones():
    batch, made, _ = _prepared("mixup")
    assert made["soft_label"].shape == (8, 16, 16, 3)
    np.testing.assert_allclose(made["soft_label"].sum(-1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(made["label"], made["soft_label"].argmax(-1))
    assert made["label"].dtype == batch["label"].dtype
    _, mixed, _ = _prepared("mixup", **{"augment.synthesis_probability": "0.5"})
    np.testing.assert_allclose(mixed["soft_label"].sum(-1), 1.0, atol=1e-6)


def test_the_ramp_sets_in_with_the_samples_of_the_run():
    ramp = {"augment.ramp": "0.1"}  # of 100 steps of 8 samples: 80 samples
    batch, start, system = _prepared("bias", 0, **ramp)
    assert system.ramp == 80
    np.testing.assert_array_equal(start["image"], batch["image"])
    _, later, _ = _prepared("bias", 80, **ramp)
    _, full, _ = _prepared("bias", 0)
    np.testing.assert_allclose(later["image"], full["image"], rtol=1e-5, atol=1e-6)
    assert np.abs(full["image"] - batch["image"]).max() > 0.01


def test_the_networks_part_of_a_policy_is_built():
    _, system = tiny("moex_pono")
    assert system.net.moment_exchange == "positional" and system.moment_exchange.weight == 0.9
    _, plain = tiny("none")
    assert plain.net.moment_exchange is None and plain.feature_mixup is None
    assert dataclasses.replace(system.net, moment_exchange=None) == plain.net


def test_soft_labels_cannot_be_ignored():
    with pytest.raises(ValueError, match="choose a policy without mixup"):
        tiny("interpolation", **{"ignore_label": "255"})
