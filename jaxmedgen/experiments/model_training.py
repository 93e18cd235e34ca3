"""Trainings within an experiment: a model of some subjects and nobody else, and what it cost."""

import json
import pathlib
import time

import jax
from ml_collections import ConfigDict

from jaxmedgen.data.build import Sources
from jaxmedgen.data.sources import DatasetInfo, Source, subset
from jaxmedgen.experiments.training import train
from jaxmedgen.systems.base import PlayerVariables, System, build_system, evaluation_variables
from jaxmedgen.train.environment import write_json
from jaxmedgen.train.progress import Progress

_SECONDS = "seconds.json"


def alone(source: Source, info: DatasetInfo | None = None) -> Sources:
    """A source's subjects for training, and none for validation and test.

    Args:
        source: the subjects.
        info: of the data set; by default the source's.
    """
    nobody = subset(source, ())
    return Sources(source, nobody, nobody, source.info if info is None else info)


def train_model(
    config: ConfigDict,
    source: Source,
    folder: pathlib.Path,
    name: str | None = None,
    *,
    info: DatasetInfo | None = None,
    progress: Progress | None = None,
) -> tuple[System, PlayerVariables]:
    """Trains the system of a configuration on a source alone.

    A training that was stopped is gone on with, a finished one is read. Programs that the
    surrounding study has compiled are taken over: its seeds have the same ones.

    Args:
        config: a configuration of `configs/`.
        source: the subjects.
        folder: of the training.
        name: of the training in the display.
        info: of the data set; by default the source's.
        progress: where to show progress.

    Returns:
        The system and what its abilities take.

    Raises:
        ValueError: settings that do not fit the data.
        ConfigError, Interrupted, NonFiniteError, CheckpointError: see `training.train`.
    """
    sources = alone(source, info)
    system = build_system(config, sources.info)
    cache = jax.config.jax_compilation_cache_dir
    result = train(
        config,
        sources,
        system,
        folder,
        progress=progress,
        cache=pathlib.Path(cache) if cache else None,
        name=name,
    )
    return system, evaluation_variables(result.state)


def keep_seconds(folder: pathlib.Path, started: float) -> float:
    """Seconds since `started` (`time.perf_counter`), or those that the first such call wrote.

    Args:
        folder: of the training.
        started: when its work began.
    """
    path = folder / _SECONDS
    if not path.exists():
        write_json(path, time.perf_counter() - started)
    return model_seconds(folder)


def model_seconds(folder: pathlib.Path) -> float:
    """What the finished training in a folder cost (its last call, if it was stopped)."""
    return float(json.loads((folder / _SECONDS).read_text()))
