"""Trainings of reproductions: done once, their time added up over interruptions."""

import json

import jax
import numpy as np

from jaxmedgen.configuration import load_config
from jaxmedgen.experiments.reproductions.record import Options
from jaxmedgen.experiments.reproductions.trained_model import overridden, trained_model
from jaxmedgen.experiments.runs import open_run


def test_a_training_is_read_back_and_an_interrupted_one_goes_on(tmp_path):
    """Reading costs no time on the record; a stopped training's time is added."""
    overrides = {"steps": "2", "data.train": "64", "data.validation": "0", "data.test": "2"}
    options = Options(tmp_path, overrides=overrides)
    config = overridden(load_config("vae:cpu,arm=mlp"), options)
    assert config.steps == 2
    first = trained_model(options, "models/one", config)
    again = trained_model(options, "models/one", config, first.sources)
    assert first.folder == tmp_path / "models" / "one"
    assert again.seconds == first.seconds > 0
    jax.tree.map(np.testing.assert_array_equal, first.variables, again.variables)
    # bin/sample, bin/evaluate and bin/predict take the folder.
    opened, step = open_run(first.folder).variables()
    assert step == 2
    jax.tree.map(np.testing.assert_array_equal, first.variables, opened)
    (first.folder / "seconds.json").write_text(json.dumps({"seconds": 1000.0, "finished": False}))
    assert trained_model(options, "models/one", config, first.sources).seconds > 1000
    assert trained_model(options, "models/one", config, first.sources).seconds < 1100
