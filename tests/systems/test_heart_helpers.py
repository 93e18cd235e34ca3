"""The image classifier and the box finder learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.pipeline import training_stream
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.systems.base import CanClassify, System, build_system
from jaxmedgen.systems.detection.box_regressor import box_of
from jaxmedgen.train.parallel import ParallelSettings
from tests.train.test_parallel import run as parallel_run

TINY = {
    "data.shape": "(32, 32)",
    "data.train": "16",
    "batch_size": "8",
    "steps": "40",
    "optimizer.warmup": "2",
    "net.features": "(8,)",
    "augment.preset": "flip",
}


def metrics(name, layout, steps, **overrides):
    config = load_config(name, TINY | overrides)
    sources = build_sources(config.data)
    system = build_system(config, sources.train.info)
    assert isinstance(system, System)

    def stream():
        return training_stream(sources.train, batch_size=8, seed=0, num_threads=0)

    return parallel_run(system, layout, steps, make_stream=stream)[0]


def test_classifier_learns_vendors():
    found = metrics(
        "feature_extractor", ParallelSettings(data=1), 25, **{"data.vendors": "('A', 'C')"}
    )
    assert np.mean([m["accuracy"] for m in found[-5:]]) > 0.7
    config = load_config("feature_extractor", TINY)
    info = DatasetInfo(("background", "heart"), ("cine",), (2.5, 2.5), ())
    assert isinstance(build_system(config, info), CanClassify)


def test_box_finder_learns_where_the_heart_is():
    found = metrics("heart_box", ParallelSettings(data=1), 40)
    errors = [m["box_error"] for m in found]
    assert np.mean(errors[-5:]) < 0.6 * np.mean(errors[:3])


@pytest.mark.parametrize("shape", [(10, 14), (6, 8, 10)])
def test_boxes_surround_their_labels(shape):
    rng = np.random.default_rng(0)
    label = np.zeros((3, *shape), np.int32)
    low = [[int(rng.integers(0, n - 3)) for n in shape] for _ in range(2)]
    for k, corner in enumerate(low):
        label[(k, *(slice(c, c + 3) for c in corner))] = 2
    label[(0, *(0,) * len(shape))] = 1  # another structure
    box, there = jax.jit(lambda x: box_of(x, (2,)))(jnp.asarray(label))
    assert list(np.asarray(there)) == [True, True, False]
    size = np.asarray(shape)
    for k, corner in enumerate(low):
        assert np.allclose(box[k, : len(shape)] * size, np.asarray(corner) + 1.5, atol=1e-5)
        assert np.allclose(box[k, len(shape) :] * size, 3, atol=1e-5)
