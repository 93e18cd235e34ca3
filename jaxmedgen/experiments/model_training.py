"""Trainings within an experiment: a model of some subjects and nobody else, and what it cost."""

import contextlib
import json
import pathlib
import time
from collections.abc import Iterator

import jax
from ml_collections import ConfigDict

from jaxmedgen.data.build import Sources
from jaxmedgen.data.sources import DatasetInfo, Source, subset
from jaxmedgen.experiments.training import train
from jaxmedgen.systems.base import PlayerVariables, System, build_system, evaluation_variables
from jaxmedgen.train.environment import write_json
from jaxmedgen.train.progress import Progress

_SECONDS = "seconds.json"
WALL = "wall_seconds.json"
"""File of a folder's second count: of all that a run does, its model too."""


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


@contextlib.contextmanager
def counted_seconds(folder: pathlib.Path, file: str = _SECONDS) -> Iterator[None]:
    """Counts the wall seconds of its block as the cost of the training in a folder.

    A block that is left by an error or a stop counts too, and the next one adds to it; once a block
    has come to its end, later ones, which only read the model, add nothing.

    Args:
        folder: of the training; nothing is written where the block has not made it.
        file: of the count, for folders that have two.
    """
    path = folder / file
    spent, finished = _stored(path) if path.exists() else (0.0, False)
    started, complete = time.perf_counter(), False
    try:
        yield
        complete = True
    finally:
        if not finished and folder.exists():
            seconds = spent + time.perf_counter() - started
            write_json(path, {"seconds": seconds, "finished": complete})


def model_seconds(folder: pathlib.Path, file: str = _SECONDS) -> float:
    """What the training in a folder has cost so far, in seconds over all its calls.

    Args:
        folder: of the training.
        file: of the count, as given to `counted_seconds`.

    Raises:
        FileNotFoundError: nothing was counted there (`counted_seconds`).
    """
    return _stored(folder / file)[0]


def _stored(path: pathlib.Path) -> tuple[float, bool]:
    """Seconds, and whether the training has ended; older folders have the number of the end."""
    stored = json.loads(path.read_text())
    if not isinstance(stored, dict):
        return float(stored), True
    return float(stored["seconds"]), bool(stored.get("finished", True))
