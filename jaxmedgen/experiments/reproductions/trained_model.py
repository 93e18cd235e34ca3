"""A training of a reproduction: done in its work folder, or read from where it was done."""

import dataclasses
import json
import pathlib
from typing import Any

from ml_collections import ConfigDict

from jaxmedgen.configuration import set_value
from jaxmedgen.data.build import Sources, build_sources
from jaxmedgen.experiments.model_training import counted_seconds, model_seconds
from jaxmedgen.experiments.reproductions.record import Options
from jaxmedgen.experiments.runs import describe_data
from jaxmedgen.experiments.training import claim_workdir, train
from jaxmedgen.systems.base import PlayerVariables, build_system, evaluation_variables
from jaxmedgen.train.collapse import collapse_warnings
from jaxmedgen.train.metrics_log import read_metrics


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A trained system with its data.

    Attributes:
        system: built from the configuration.
        variables: of its last state, for evaluation.
        sources: what it was trained with.
        folder: of the training.
        seconds: of the training, over all calls that it took.
    """

    system: Any
    variables: PlayerVariables
    sources: Sources
    folder: pathlib.Path
    seconds: float


def overridden(config: ConfigDict, options: Options) -> ConfigDict:
    """The same configuration, with the user's ``--config.KEY=VALUE`` written into it."""
    for key, value in options.overrides.items():
        set_value(config, key, value)
    return config


def trained_model(
    options: Options,
    name: str,
    config: ConfigDict,
    sources: Sources | None = None,
    title: str = "",
) -> TrainedModel:
    """The model of a configuration: trained in ``WORKDIR/NAME``, or read from there.

    A training that was stopped goes on; its time is added up. Where ``config.data`` describes the
    data, the folder is a run that ``bin/predict``, ``bin/sample`` and ``bin/evaluate`` take.

    Args:
        options: work folder and progress.
        name: of the folder, with slashes for folders in folders.
        config: of the training, overrides included.
        sources: data, where ``config.data`` does not describe them or they are at hand.
        title: for the progress; by default the name.
    """
    described = sources is None
    if sources is None:
        sources = build_sources(config.data)
    system = build_system(config, sources.info)
    folder = options.workdir / name
    with counted_seconds(folder):
        result = train(
            config,
            sources,
            system,
            folder,
            progress=options.progress,
            cache=options.workdir / "cache",
            name=title or name,
        )
    if described:
        describe_data(folder, sources.info, config, sources.train)
    variables = evaluation_variables(result.state)
    return TrainedModel(system, variables, sources, folder, model_seconds(folder))


def stored(path: pathlib.Path, config: ConfigDict) -> dict[str, Any] | None:
    """Scores that lie beside a training's checkpoints; None where nothing was scored yet.

    The training's own ``config.json`` tells which settings they belong to. Scores of a folder that
    has none (it was tidied up) are taken for those of the settings that are asked for.

    Args:
        path: of the scores.
        config: of the training that is asked for, overrides included.

    Raises:
        ConfigError: they are of a training with other settings.
    """
    if not path.exists():
        return None
    if (path.parent / "config.json").exists():
        claim_workdir(config, path.parent)
    return json.loads(path.read_text())


def collapse_notes(options: Options) -> tuple[str, ...]:
    """Signs of failed trainings in the logs of a reproduction, a sentence each (`train.collapse`).

    Args:
        options: whose work folder has the trainings, in folders in folders.
    """
    found = []
    for path in sorted(options.workdir.rglob("metrics.jsonl")):
        name = path.parent.relative_to(options.workdir)
        lines = read_metrics(path, split="train")
        found += [f"{name}: {text}." for text in collapse_warnings(lines)]
    return tuple(found)
