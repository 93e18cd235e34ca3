"""What a model costs, over all the calls that its training took."""

import json
import time

import pytest

from jaxmedgen.experiments.model_training import WALL, counted_seconds, model_seconds
from jaxmedgen.train.interrupt import Interrupted


def test_the_time_of_a_stopped_training_is_added(tmp_path):
    with pytest.raises(Interrupted), counted_seconds(tmp_path):
        time.sleep(0.05)
        raise Interrupted
    first = model_seconds(tmp_path)
    assert first >= 0.05
    with counted_seconds(tmp_path):
        time.sleep(0.02)
    whole = model_seconds(tmp_path)
    assert whole >= first + 0.02
    with counted_seconds(tmp_path):  # reads the finished model
        time.sleep(0.02)
    assert model_seconds(tmp_path) == whole


def test_a_folder_has_two_counts(tmp_path):
    with counted_seconds(tmp_path, WALL):
        time.sleep(0.02)
        with counted_seconds(tmp_path):
            pass
    assert model_seconds(tmp_path) < 0.02 <= model_seconds(tmp_path, WALL)


@pytest.mark.parametrize("stored", [7.5, {"seconds": 7.5}])
def test_finished_models_of_older_folders_keep_their_cost(tmp_path, stored):
    (tmp_path / "seconds.json").write_text(json.dumps(stored))
    with counted_seconds(tmp_path):
        pass
    assert model_seconds(tmp_path) == 7.5


def test_nothing_is_written_where_no_training_began(tmp_path):
    folder = tmp_path / "none"
    with pytest.raises(ValueError), counted_seconds(folder):
        raise ValueError("refused")
    assert not folder.exists()
