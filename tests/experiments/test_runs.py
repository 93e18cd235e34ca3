"""What a finished training shows of its system."""

import json

import pytest
from ml_collections import ConfigDict

from jaxmedgen.configuration import ConfigError, load_config
from jaxmedgen.data.build import Sources, preprocessing
from jaxmedgen.data.phantoms.shapes import Shapes
from jaxmedgen.data.sources import subset
from jaxmedgen.experiments.runs import open_run, show_run
from jaxmedgen.train.environment import write_json
from jaxmedgen.train.state import TrainState
from jaxmedgen.train.trainable import FitResult
from tests.train.toys import Regression


class Sampler(Regression):
    """A system whose sampler fails."""

    def __init__(self, makes_samples):
        super().__init__()
        object.__setattr__(self, "makes_samples", makes_samples)

    def sample(self, variables, keys, label):
        raise ValueError("a label outside the classes")


def show(system, workdir):
    train = Shapes(2, (16, 16), 0)
    nobody = subset(train, ())
    state = TrainState(step=0, key=None, players={}, halted=-1)
    config = ConfigDict(
        {"patch_size": (), "seed": 0, "data": {"kind": "shapes", "shape": (16, 16)}}
    )
    show_run(
        config,
        Sources(train, nobody, nobody, train.info),
        system,
        FitResult(state, None, 0.0),
        workdir,
    )


def test_a_system_that_makes_no_samples_is_left_alone(tmp_path):
    show(Sampler(makes_samples=False), tmp_path)
    assert not (tmp_path / "samples").exists()


def test_a_failing_sampler_is_not_hidden(tmp_path):
    with pytest.raises(ValueError, match="outside the classes"):
        show(Sampler(makes_samples=True), tmp_path)


def test_a_run_of_an_older_version_is_told(tmp_path):
    config = load_config("unet:cpu").unlock()
    del config.optimizer.kind
    write_json(tmp_path / "config.json", config.to_dict())
    description = {
        "class_names": ["background", "heart"],
        "channel_names": ["mr"],
        "spacing": [1.0, 1.0],
        "preprocessing": json.loads(preprocessing(config.data).to_json()),
    }
    write_json(tmp_path / "dataset.json", description)
    with pytest.raises(ConfigError, match="has no setting 'kind', which"):
        open_run(tmp_path)
