"""Trained models of ``bin/reproduce vae``, and their numbers on held-out masks."""

import functools
import json
from collections.abc import Mapping

import jax
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import Sources, build_sources
from jaxmedgen.experiments.reproductions.record import Options
from jaxmedgen.experiments.reproductions.trained_model import (
    TrainedModel,
    overridden,
    trained_model,
)
from jaxmedgen.experiments.shape_generation import batch_of, in_chunks
from jaxmedgen.types import Batch

SEEDS = 3
STEPS = 2000
UNITS = 400
"""Of the dense layers: the sheet's network for the fastest tests, a twelfth of its convolutions'
time a step."""
CONV_WIDTHS = (16, 32, 32)
"""Channels of the convolutions where dense layers will not do: half the sheet's."""


def dense(argument: str, seed: int, settings: Mapping[str, str] | None = None) -> ConfigDict:
    """An arm with dense layers in place of convolutions; data and training of one seed."""
    config = load_config(f"vae:cpu,{argument}", settings or {})
    with config.unlocked():
        config.model.architecture, config.model.widths = "mlp", (UNITS,)
    return scheduled(config, seed)


def convolutional(
    argument: str, seed: int, settings: Mapping[str, str] | None = None, steps: int = STEPS
) -> ConfigDict:
    """An arm with convolutions of half the sheet's width; data and training of one seed."""
    config = load_config(f"vae:cpu,{argument}", settings or {})
    with config.unlocked():
        config.model.widths = CONV_WIDTHS
    return scheduled(config, seed, steps)


def scheduled(config: ConfigDict, seed: int, steps: int = STEPS) -> ConfigDict:
    """The configuration with a seed and a length; warm-up over the first fifth."""
    with config.unlocked():
        config.seed = config.data.seed = seed
        config.steps = config.checkpoint_every = steps
        config.criterion.warm_up = steps // 5
        config.show_every = 0
    return config


@functools.lru_cache(maxsize=4)
def _sources(description: str) -> Sources:
    return build_sources(ConfigDict(json.loads(description)))


def trained(
    options: Options, name: str, config: ConfigDict, sources: Sources | None = None
) -> TrainedModel:
    """The model of a configuration: trained in ``WORKDIR/NAME``, or read from there.

    Args:
        options: work folder and overrides.
        name: of the folder.
        config: of the training.
        sources: data that ``config.data`` does not describe.
    """
    overridden(config, options)
    if sources is None:
        sources = _sources(json.dumps(config.data.to_dict(), sort_keys=True))
    return trained_model(options, name, config, sources)


def held_out(model: TrainedModel) -> Batch:
    """The test masks with their records."""
    return batch_of(model.sources.test, range(len(model.sources.test)))


def training(model: TrainedModel) -> Batch:
    """The training masks with their records."""
    return batch_of(model.sources.train, range(len(model.sources.train)))


def bounds(model: TrainedModel, draws: int, seed: int = 0) -> dict[str, Float[np.ndarray, " n"]]:
    """Bounds of every test mask, in nats; ``kl`` summed over latent dimensions."""
    batch = held_out(model)
    keys = jax.random.split(jax.random.key(seed), len(batch["image"]))
    bounds = jax.jit(lambda v, b, k: model.system.bounds(v, k, b, draws)._asdict())
    found = in_chunks(functools.partial(bounds, model.variables), batch, keys)
    return {name: x.reshape(len(x), -1).sum(1) for name, x in found.items()}


def table(header: str, rows: list[list[str]]) -> str:
    """A Markdown table.

    Args:
        header: column names with bars between.
        rows: cells.
    """
    columns = header.count("|") + 1
    lines = [f"| {header} |", "|" + "---|" * columns]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
