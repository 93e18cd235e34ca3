"""Measures of a model that are taken once: numbers and pictures are kept beside its checkpoints.

``scores.json`` of the model's folder holds its configuration and, by measure and settings of the
measure, what came out and how long it took. A second call reads it; another configuration or other
settings are measured anew. After a change of a measure's code, delete the file.
"""

import dataclasses
import functools
import inspect
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxmedgen.experiments.reproductions.hearts.models import Model, configured, trained
from jaxmedgen.experiments.reproductions.record import Options
from jaxmedgen.train.environment import write_json

Pictures = Mapping[str, np.ndarray]


class Measured:
    """A model of an arm that is trained, or read, when something of it is first measured."""

    def __init__(
        self, options: Options, arm: str, seed: int, steps: int | None = None, prefix: str = ""
    ) -> None:
        """Names the model; arguments are those of `models.trained`."""
        self.name = f"{prefix}{arm}-{seed}"
        self._options, self._arm, self._seed, self._steps = options, arm, seed, steps
        self._folder = options.workdir / self.name

    @functools.cached_property
    def model(self) -> Model:
        """Trained, or read from where it was trained."""
        self._options.progress.say(f"{self.name}: training, or reading what was trained")
        return trained(self._options, self._arm, self._seed, self._steps, self.name)

    def close(self) -> None:
        """Forgets the model, not what was measured: its memory is free for the next."""
        self.__dict__.pop("model", None)

    @property
    def seconds(self) -> float:
        """Of the training and of all measures that are kept."""
        cost = json.loads((self._folder / "seconds.json").read_text())["seconds"]
        return float(cost + sum(found["seconds"] for found in self._stored().values()))

    def measure(self, function: Callable[..., Any], **settings: Any) -> Any:
        """What `function` gives for the model and the settings, as JSON keeps it.

        Args:
            function: of a `Model` and settings, giving a number, a dataclass of numbers or a
                mapping of such.
            settings: keyword arguments of it; its defaults count as settings, too.
        """
        return self._kept(function, settings, lambda model: (function(model, **settings), {}))[0]

    def measure_and_draw(
        self, function: Callable[..., tuple[Any, Pictures]], **settings: Any
    ) -> tuple[Any, Pictures]:
        """The same for a function that gives pictures by name, too."""
        return self._kept(function, settings, lambda model: function(model, **settings))

    def _kept(self, function, settings, compute) -> tuple[Any, Pictures]:
        key = _key(function, settings)
        drawn = self._folder / "measured" / f"{key}.npz"
        if key not in self._stored():
            model = self.model
            self._options.progress.say(f"{self.name}: {key}")
            started = time.perf_counter()
            value, pictures = compute(model)
            if pictures:
                drawn.parent.mkdir(parents=True, exist_ok=True)
                np.savez_compressed(drawn, **pictures)
            taken = {"value": _plain(value), "seconds": time.perf_counter() - started}
            scores = self._stored() | {key: taken}
            write_json(self._path, {"config": self._config, "scores": scores})
        pictures = dict(np.load(drawn)) if drawn.exists() else {}
        return self._stored()[key]["value"], pictures

    @property
    def _path(self):
        return self._folder / "scores.json"

    @functools.cached_property
    def _config(self) -> dict[str, Any]:
        config = configured(self._options, self._arm, self._seed, self._steps)
        return json.loads(json.dumps(config.to_dict()))

    def _stored(self) -> dict[str, Any]:
        """What was measured with this configuration."""
        if not self._path.exists():
            return {}
        content = json.loads(self._path.read_text())
        return content["scores"] if content["config"] == self._config else {}


def _key(function: Callable[..., Any], settings: Mapping[str, Any]) -> str:
    """The function's name and all its arguments but the model."""
    bound = inspect.signature(function).bind(None, **settings)
    bound.apply_defaults()
    name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
    return ",".join([name, *(f"{k}={v}" for k, v in list(bound.arguments.items())[1:])])


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    return value
