"""Measures of models are taken once for a configuration and settings, pictures included."""

import dataclasses
import json
import math

import numpy as np

from jaxmedgen.experiments.reproductions.hearts import measured
from jaxmedgen.experiments.reproductions.hearts.measured import Measured
from jaxmedgen.experiments.reproductions.hearts.models import Model
from jaxmedgen.experiments.reproductions.record import Options
from jaxmedgen.train.progress import Progress


@dataclasses.dataclass(frozen=True)
class Found:
    size: float
    missing: float
    parts: dict[str, float]


def size(model, factor=2.0):
    return Found(model.kl * factor, float("nan"), {"a": np.float32(0.5)})


def drawn(model, seed):
    return model.kl + seed, {"grey": np.full((2, 2), seed, np.uint8)}


def test_a_second_call_measures_nothing(tmp_path, monkeypatch):
    opened, bare = [], object.__new__(Model)
    object.__setattr__(bare, "kl", 3.0)

    def trained(options, arm, seed, steps, name):
        opened.append(name)
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "seconds.json").write_text(json.dumps({"seconds": 10.0}))
        return bare

    monkeypatch.setattr(measured, "trained", trained)

    def model(**overrides):
        options = Options(tmp_path, overrides=overrides, progress=Progress(quiet=True))
        return Measured(options, "vae", 1, 5, "sweep-")

    first = model()
    value = first.measure(size)
    number, pictures = first.measure_and_draw(drawn, seed=7)
    again = model()
    np.testing.assert_equal(again.measure(size), value)
    assert value["size"] == 6 and math.isnan(value["missing"]) and value["parts"] == {"a": 0.5}
    assert again.measure_and_draw(drawn, seed=7)[0] == number == 10
    np.testing.assert_array_equal(
        again.measure_and_draw(drawn, seed=7)[1]["grey"], pictures["grey"]
    )
    assert opened == ["sweep-vae-1"]  # once for everything so far
    assert 10 <= again.seconds < 11
    assert again.measure(size, factor=3.0)["size"] == 9  # other settings
    assert model(steps="6").measure(size)["size"] == 6  # another configuration
    assert len(opened) == 3
