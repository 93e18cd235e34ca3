"""Checkpoints: who looks at a running training leaves it alone; a failed write is told."""

import contextlib
import resource
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.experiments.runs import TrainedRun
from jaxmedgen.train import checkpoint
from jaxmedgen.train.checkpoint import Checkpointer, CheckpointError
from jaxmedgen.train.state import Player, TrainState
from tests.train.toys import Regression

_BYTES = 1_000_000


def _state(step, numbers=3):
    weights = jax.random.normal(jax.random.key(0), (numbers,))
    players = {"net": Player({"w": weights}, {}, None, {})}
    return TrainState(
        step=jnp.int32(step), key=jax.random.key(0), players=players, halted=jnp.int32(-1)
    )


def test_a_reader_leaves_what_a_training_is_writing(tmp_path):
    training = Checkpointer(tmp_path)
    training.save(_state(1), {"x": 1})
    training.wait()
    unfinished = tmp_path / "checkpoints" / "last" / "2.orbax-checkpoint-tmp"
    unfinished.mkdir()
    reader = Checkpointer(tmp_path, read_only=True)
    state, host = reader.restore(_state(0))
    assert (int(state.step), host, reader.latest("best")) == (1, {"x": 1}, None)
    with pytest.raises(CheckpointError, match=r"last/7 is not there \(any more\)"):
        reader.restore(_state(0), step=7)
    reader.close()
    assert unfinished.exists()
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["last"]
    with pytest.raises(ValueError, match="read_only"):
        reader.save(_state(2), {})
    training.close()


def test_a_reader_of_a_missing_run_is_told_and_creates_nothing(tmp_path):
    reader = Checkpointer(tmp_path / "typo", read_only=True)
    for step in (None, 3):
        with pytest.raises(CheckpointError, match=r"no 'last' checkpoint in .*typo.*train first"):
            reader.restore(_state(0), step=step)
    reader.close()
    assert list(tmp_path.iterdir()) == []


def test_weights_of_a_running_training_are_read_without_disturbing_it(tmp_path):
    system = Regression()
    run = types.SimpleNamespace(
        workdir=tmp_path,
        preprocessing=types.SimpleNamespace(shape=(8, 8)),
        config=types.SimpleNamespace(patch_size=()),
        info=types.SimpleNamespace(channel_names=("grey",)),
        system=system,
    )
    with pytest.raises(CheckpointError, match="no 'last' checkpoint"):
        TrainedRun.variables(run)
    assert list(tmp_path.iterdir()) == []
    training = Checkpointer(tmp_path)
    example = {"image": jnp.zeros((1, 8, 8, 1)), "label": jnp.zeros((1, 8, 8), int)}
    training.save(system.init(jax.random.key(0), example), {})
    unfinished = tmp_path / "checkpoints" / "last" / "2.orbax-checkpoint-tmp"
    unfinished.mkdir()
    variables, step = TrainedRun.variables(run)
    assert (step, set(variables)) == (0, {"net"})
    assert unfinished.exists()
    training.close()


@contextlib.contextmanager
def _full_disk():
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_later_is_told_with_its_step_whoever_notices(tmp_path, monkeypatch):
    """On an accelerator checkpoints are written while training goes on."""
    elsewhere = types.SimpleNamespace(**vars(jax) | {"default_backend": lambda: "gpu"})
    monkeypatch.setattr(checkpoint, "jax", elsewhere)
    checkpoints = Checkpointer(tmp_path)
    checkpoints.save(_state(1, _BYTES), {"x": 1})
    checkpoints.wait()
    with _full_disk():
        for notices in (
            lambda: checkpoints.wait(),
            lambda: checkpoints.close(),
            lambda: checkpoints.save(_state(9, _BYTES), {}),
        ):
            checkpoints.save(_state(2, _BYTES), {})
            with pytest.raises(CheckpointError, match=r"checkpoint of step 2 .* from step 1$") as e:
                notices()
            assert "\n" not in str(e.value)
            checkpoints.close()  # told once
        checkpoints.save(_state(2, _BYTES), {}, kind="best")
        with pytest.raises(CheckpointError, match=r"step 2 to .*best: .* from step 1$"):
            checkpoints.wait()
    checkpoints.save(_state(3, _BYTES), {"x": 3})  # space was freed
    state, host = checkpoints.restore(_state(0, _BYTES))
    checkpoints.close()
    assert host == {"x": 3}
    written = _state(3, _BYTES).players["net"].params["w"]
    np.testing.assert_array_equal(state.players["net"].params["w"], written)
