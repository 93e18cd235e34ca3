"""Trainings of reproductions: done once, their time added up over interruptions."""

import json

import jax
import numpy as np
import pytest

from jaxmedgen.configuration import ConfigError, load_config
from jaxmedgen.data.phantoms.heart_slices import HeartSlices
from jaxmedgen.data.sources import in_memory
from jaxmedgen.experiments.model_training import alone
from jaxmedgen.experiments.reproductions import it_vae_factors
from jaxmedgen.experiments.reproductions.gcnn import pose, textures
from jaxmedgen.experiments.reproductions.record import Options
from jaxmedgen.experiments.reproductions.trained_model import overridden, trained_model
from jaxmedgen.experiments.reproductions.translation import digits, hemispheres
from jaxmedgen.experiments.runs import open_run
from jaxmedgen.experiments.training import claim_workdir


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


@pytest.mark.parametrize(
    ("module", "scored", "name"),
    [
        (pose, lambda o: pose._run(o, "baseline", 1), "pose/baseline/seed1/scores.json"),
        (textures, lambda o: textures._run(o, "sse", 1), "textures/sse/seed1/accuracy.json"),
        (
            digits,
            lambda o: digits.scores(o, "cpu", "glyphs", "proposed", 1),
            "glyphs/proposed/seed1/scores.json",
        ),
        (
            hemispheres,
            lambda o: hemispheres.scores(o, "proposed", 1),
            "hemispheres/proposed/seed1/scores.json",
        ),
        (
            it_vae_factors,
            lambda o: it_vae_factors._measure(o, "glyphs", "", ("vae",), 1, 5)[1]["vae"][0],
            "glyphs/vae/seed0/scores.json",
        ),
    ],
)
def test_scores_of_a_trial_are_not_those_of_the_full_run(
    tmp_path, monkeypatch, module, scored, name
):
    """A quick one with --config.steps=20, and then the whole, in one work folder."""

    class Asked(Exception):
        """The training would begin."""

    def began(options, name, config, *_, **__):
        asked.append(config)
        raise Asked

    asked = []
    monkeypatch.setattr(module, "trained_model", began)
    hearts = alone(in_memory(HeartSlices(1, shape=(32, 32), seed=0)))
    for build in ("build_sources", "_sources"):
        monkeypatch.setattr(module, build, lambda _: hearts, raising=False)
    trial, full = Options(tmp_path, overrides={"steps": "20"}), Options(tmp_path)
    with pytest.raises(Asked):
        scored(trial)
    path = tmp_path / name
    claim_workdir(asked[0], path.parent)  # as the training does
    path.write_text(json.dumps({"accuracy": 0.5, "seconds": 3.0}))
    assert scored(trial)["accuracy"] == 0.5
    with pytest.raises(ConfigError, match=r"other settings \(steps: .*use another --workdir"):
        scored(full)
    (path.parent / "config.json").unlink()
    assert scored(full)["seconds"] == 3.0 and len(asked) == 1
