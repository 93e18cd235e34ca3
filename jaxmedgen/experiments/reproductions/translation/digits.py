"""GenSeg on digits among clutter: glyphs of 32^2 and the published tasks, trained and scored."""

import dataclasses
import functools
import json
import time

from ml_collections import ConfigDict

from jaxmedgen.configuration import from_json, load_config
from jaxmedgen.data.build import Sources, build_sources, preprocessing
from jaxmedgen.data.mnist import read_digits
from jaxmedgen.data.phantoms.cluttered_digits import cluttered_fold
from jaxmedgen.experiments.reproductions.record import Options
from jaxmedgen.experiments.reproductions.trained_model import overridden, stored, trained_model
from jaxmedgen.experiments.runs import TrainedRun, describe_data
from jaxmedgen.experiments.translation_pictures import translation_grid
from jaxmedgen.experiments.translation_scores import score_digits
from jaxmedgen.report.pictures import Rgb
from jaxmedgen.train.environment import write_json

STEPS = 2500
BATCH = 16
DIGIT_STEPS = 5000
LARGE_STEPS = 1200
DIGIT_BATCH = 8
"""Of the tasks of 48^2 and 128^2 on a processor, where a step takes 0.4 and 2.9 s of a core."""

MNIST = 70_000
"""Digits of both parts."""

Scores = dict[str, float]


def configured(options: Options, size: str, data: str, arm: str, seed: int) -> ConfigDict:
    """The configuration of one training, overrides included.

    Args:
        options: of the reproduction.
        size: of `configs/genseg.py`.
        data: its data: ``glyphs``, or one of the published tasks.
        arm: its arm.
        seed: of the training.
    """
    config = load_config(f"genseg:{size},data={data},arm={arm}")
    with config.unlocked():
        config.seed = seed
        if data == "glyphs":
            config.steps, config.batch_size = STEPS, BATCH
        else:
            config.data.folder = options.data or ""
            if size == "cpu":
                config.steps = LARGE_STEPS if data == "large" else DIGIT_STEPS
                config.batch_size = DIGIT_BATCH
                if arm == "autoencoder":
                    # A hundredth, as published at 128^2, learns no segmentation in so few steps.
                    config.baseline.segmentation = 1.0
                config.data.update(train=4000, test=1000, validation=100)
            elif options.data and len(read_digits(options.data)[1]) < MNIST:
                # The files of MNIST's test part alone.
                config.data.update(train=8000, test=1000, validation=500)
    overridden(config, options)
    with config.unlocked():
        config.eval_every = config.checkpoint_every = max(1, config.steps // 5)
        config.show_every = 0
    return config


@functools.lru_cache(maxsize=1)
def _sources(data: str) -> Sources:
    """The sources of a ``data`` group: the same for all arms and seeds."""
    return build_sources(from_json(data))


def _trained(options: Options, size: str, data: str, arm: str, seed: int):
    """A trained model with the weights of its best validation, and its configuration."""
    config = configured(options, size, data, arm, seed)
    sources = _sources(json.dumps(config.data.to_dict()))
    model = trained_model(options, f"{data}/{arm}/seed{seed}", config, sources)
    # For bin/evaluate and bin/sample.
    describe_data(model.folder, sources.info, config, sources.train)
    prepared = preprocessing(config.data)
    run = TrainedRun(model.folder, config, sources.info, prepared, model.system)
    return config, model.system, run.variables("best")[0]


def scores(options: Options, size: str, data: str, arm: str, seed: int) -> Scores:
    """Test scores and seconds of one training; finished ones are read. Arguments: `configured`."""
    path = options.workdir / data / arm / f"seed{seed}" / "scores.json"
    found = stored(path, configured(options, size, data, arm, seed))
    if found is None:
        started = time.perf_counter()
        config, system, variables = _trained(options, size, data, arm, seed)
        scored = score_digits(system, variables, cluttered_fold(config.data, "test"))
        took = time.perf_counter() - started
        found = dataclasses.asdict(scored) | {"seconds": took}
        write_json(path, found)
    return found


def picture(options: Options, size: str, data: str) -> Rgb:
    """What the proposed model's first seed makes of test images."""
    config, system, variables = _trained(options, size, data, "proposed", 0)
    return translation_grid(system, variables, cluttered_fold(config.data, "test"))
