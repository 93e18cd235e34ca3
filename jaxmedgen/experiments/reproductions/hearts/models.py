"""Models of label maps for the claims: trained, or read from where they were trained."""

import dataclasses

from ml_collections import ConfigDict

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import Sources, build_sources
from jaxmedgen.data.stacks import Stack
from jaxmedgen.experiments.label_space import LabelSpace, open_space
from jaxmedgen.experiments.label_synthesis import Population, measure_population
from jaxmedgen.experiments.reproductions.record import Options
from jaxmedgen.experiments.reproductions.trained_model import overridden, trained_model
from jaxmedgen.train.metrics_log import read_metrics

BATCH = 16
"""Slices a step, half of the configuration's: the claims are for one core."""

_MOST = 1024
"""Label maps that principal components are taken of."""


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained model and its subjects.

    Attributes:
        name: arm and seed.
        space: of the model.
        train: training stacks.
        test: held-out stacks.
        population: the training subjects embedded.
        kl: nats of the last logged steps, NaN for models without.
        seconds: of the training.
    """

    name: str
    space: LabelSpace
    train: tuple[Stack, ...]
    test: tuple[Stack, ...]
    population: Population
    kl: float
    seconds: float


def configured(options: Options, arm: str, seed: int, steps: int | None = None) -> ConfigDict:
    """The configuration of an arm's training; data are the same for all.

    Args:
        options: of the reproduction; overrides go to the configuration.
        arm: of `configs/label_deformation.py`.
        seed: of the training.
        steps: of the training; the configuration's by default.
    """
    config = load_config(f"label_deformation:cpu,arm={arm}")
    with config.unlocked():
        config.seed, config.show_every = seed, 0
        if steps is not None:
            config.steps = config.checkpoint_every = steps
            config.criterion.capacity_steps = steps // 2
        if arm not in ("pca", "volume"):
            config.batch_size = BATCH
    overridden(config, options)
    if arm == "pca":
        with config.unlocked():
            config.batch_size = min(len(build_sources(config.data).train), _MOST)
    return config


def trained(options: Options, arm: str, seed: int, steps: int | None, name: str) -> Model:
    """The model of an arm, trained in the folder `name` or read from there.

    Args:
        options: of the reproduction.
        arm: of `configs/label_deformation.py`.
        seed: of the training.
        steps: of the training; the configuration's where None.
        name: of the folder.
    """
    config = configured(options, arm, seed, steps)
    model = trained_model(options, name, config)
    shape = model.sources.train[0]["label"].shape
    space = open_space(model.system, model.variables, tuple(shape))
    stacks, held_out = (_stacks(model.sources, part) for part in ("train", "test"))
    lines = [
        line for line in read_metrics(model.folder / "metrics.jsonl") if line["split"] == "train"
    ]
    return Model(
        name=arm,
        space=space,
        train=stacks,
        test=held_out,
        population=measure_population(space, stacks),
        kl=float(lines[-1].get("kl", float("nan"))) if lines else float("nan"),
        seconds=model.seconds,
    )


def _stacks(sources: Sources, part: str) -> tuple[Stack, ...]:
    return getattr(sources, part).stacks
