"""What a finished training shows of its system."""

import pytest
from ml_collections import ConfigDict

from jaxmedgen.data.build import Sources
from jaxmedgen.data.phantoms.shapes import Shapes
from jaxmedgen.data.sources import subset
from jaxmedgen.experiments.runs import show_run
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
