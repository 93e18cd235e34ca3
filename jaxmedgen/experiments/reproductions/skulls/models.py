"""Models of skulls from planes for the claims: trained and scored, or read from where they were."""

import dataclasses
import json
import pathlib
import time
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Float

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.sources import Source
from jaxmedgen.experiments.reconstruction.scoring import (
    EVERY_SET,
    NESTED,
    Builder,
    UncertaintyScore,
    VolumeScore,
    score_source,
    score_uncertainty,
)
from jaxmedgen.experiments.reconstruction.tables import view_names
from jaxmedgen.experiments.reproductions.record import Options
from jaxmedgen.experiments.reproductions.trained_model import overridden, trained_model
from jaxmedgen.systems.base import PlayerVariables, System
from jaxmedgen.train.environment import write_json
from jaxmedgen.train.metrics_log import read_metrics

FOLDS = 3
_SETS = {view_names(views): views for views in EVERY_SET}


@dataclasses.dataclass(frozen=True)
class Run:
    """One training of a model, scored on its test cases.

    Attributes:
        scores: of every set of views that the model knows.
        uncertainty: likewise of the nested sets, where it was asked for.
        divergence: nats of each latent level at the end of the training.
        seconds: of training and scoring.
        system: the model.
        variables: its weights.
        test: its test cases.
    """

    scores: Mapping[tuple[int, ...], Sequence[VolumeScore]]
    uncertainty: Mapping[tuple[int, ...], Sequence[UncertaintyScore]]
    divergence: Mapping[str, float]
    seconds: float
    system: System
    variables: PlayerVariables
    test: Source


@dataclasses.dataclass(frozen=True)
class Model:
    """All runs of a model: one a seed, or with a user's data one a fold.

    Attributes:
        name: in tables.
        runs: of the seeds or folds.
        folds: whether they are folds, whose cases differ.
    """

    name: str
    runs: tuple[Run, ...]
    folds: bool = False

    def pooled(self, views: tuple[int, ...]) -> tuple[VolumeScore, ...]:
        """The cases of all runs, for tables."""
        return tuple(score for run in self.runs for score in run.scores.get(views, ()))

    def matrix(self, views: tuple[int, ...], metric: str) -> Float[np.ndarray, "seeds cases"]:
        """A metric, a row a seed; folds are one row of all cases."""
        rows = [[float(getattr(s, metric)) for s in run.scores[views]] for run in self.runs]
        return np.concatenate(rows)[None] if self.folds else np.array(rows)

    def uncertainty(self, views: tuple[int, ...]) -> tuple[UncertaintyScore, ...]:
        """Of the cases of all runs."""
        return tuple(score for run in self.runs for score in run.uncertainty.get(views, ()))


def model(
    options: Options, name: str, argument: str, seeds: int, steps: int, *, samples: bool = False
) -> Model:
    """Trains and scores what is not finished yet.

    Args:
        options: of the reproduction; with data its folds take the place of seeds, and overrides go
            to the configuration.
        name: in tables, and of the folders.
        argument: of `configs/hcvae.py` after the size.
        seeds: number of them.
        steps: of the trainings on phantoms.
        samples: whether uncertainty is scored.
    """
    count = FOLDS if options.data else seeds
    runs = tuple(_run(options, name, argument, i, steps, samples) for i in range(count))
    return Model(name, runs, folds=bool(options.data))


def _run(options, name, argument, number, steps, samples) -> Run:
    large = bool(options.data) and jax.default_backend() != "cpu"
    config = load_config(f"hcvae:{'gpu' if large else 'cpu'},{argument}")
    linear = config.model.kind == "linear"
    with config.unlocked():
        config.show_every = 0
        if options.data:
            config.data.folder, config.data.folds, config.data.fold = options.data, FOLDS, number
        else:
            config.seed = number
        if not large and not linear:
            config.steps = config.checkpoint_every = steps
            config.criterion.warm_up = 3 * steps // 10
            config.criterion.stages = (steps // 3, 2 * steps // 3)
    overridden(config, options)
    sources = build_sources(config.data)
    if linear:
        with config.unlocked():
            config.batch_size = len(sources.train)
    folder, started = f"{name.replace(' ', '_')}-{number}", time.perf_counter()
    model = trained_model(options, folder, config, sources, f"{name}-{number}")
    path = model.folder / "scores.json"
    if not path.exists():
        builder = Builder(model.system, model.variables)
        _score(path, builder, sources.test, samples, started)
    stored = json.loads(path.read_text())
    lines = [
        line for line in read_metrics(model.folder / "metrics.jsonl") if line["split"] == "train"
    ]
    last = lines[-1] if lines else {}
    return Run(
        scores={_SETS[k]: [VolumeScore(**s) for s in v] for k, v in stored["scores"].items()},
        uncertainty={
            _SETS[k]: [UncertaintyScore(**s) for s in v] for k, v in stored["uncertainty"].items()
        },
        divergence={k: float(v) for k, v in last.items() if k.startswith("kl_")},
        seconds=float(stored["seconds"]),
        system=model.system,
        variables=model.variables,
        test=sources.test,
    )


def _score(path: pathlib.Path, builder: Builder, test: Source, samples: bool, started: float):
    known = set(builder.system.views)
    scores = {v: score_source(builder, test, v) for v in EVERY_SET if set(v) <= known}
    spread = {}
    if samples:
        spread = {v: score_uncertainty(builder, test, v) for v in NESTED if set(v) <= known}
    content = {
        key: {view_names(v): [dataclasses.asdict(s) for s in found] for v, found in part.items()}
        for key, part in (("scores", scores), ("uncertainty", spread))
    }
    write_json(path, {**content, "seconds": time.perf_counter() - started})
