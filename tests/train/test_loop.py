"""The loop: resume is bit-identical, signals save in every phase, bad numbers stop the run."""

import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from rich.console import Console

from jaxmedgen.train.checkpoint import Checkpointer, CheckpointError
from jaxmedgen.train.interrupt import Interrupted, StopSignal, run_interruptibly
from jaxmedgen.train.loop import fit
from jaxmedgen.train.metrics_log import read_metrics
from jaxmedgen.train.parallel import Parallel, ParallelSettings
from jaxmedgen.train.progress import Progress
from jaxmedgen.train.trainable import LoopSettings, NonFiniteError
from tests.train.toys import Regression, SlowToCompile, stream

ONE = ParallelSettings(data=1)
QUIET = {"progress": Progress(quiet=True)}
SETTINGS = LoopSettings(steps=30, batch_size=4, log_every=7, eval_every=10, checkpoint_every=6)


def _validate(state, step, stop):
    return {"dice": float(state.players["net"].params["b"]) + 1.0}


def _run(workdir, system=None, settings=SETTINGS, **keywords):
    keywords = {"validate": _validate, "parallel": Parallel(ONE), **QUIET, **keywords}
    return fit(system or Regression(), stream(), settings, workdir, **keywords)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished")
    return workdir, _run(workdir)


def test_writes_metrics_checkpoints_and_events(finished):
    workdir, result = finished
    assert [m["step"] for m in read_metrics(workdir / "metrics.jsonl", split="train")] == [
        7,
        14,
        21,
        28,
        30,
    ]
    validations = read_metrics(workdir / "metrics.jsonl", split="validation")
    assert [m["step"] for m in validations] == [10, 20, 30]
    assert result.best["score"] == max(m["dice"] for m in validations)
    losses = [m["loss"] for m in read_metrics(workdir / "metrics.jsonl", split="train")]
    assert losses[-1] < losses[0]
    assert sorted(p.name for p in (workdir / "checkpoints" / "last").iterdir()) == ["24", "30"]
    assert any((workdir / "tensorboard").iterdir())


def test_a_finished_run_returns_at_once(finished):
    workdir, result = finished
    before = (workdir / "metrics.jsonl").read_bytes()
    again = _run(workdir)
    assert (workdir / "metrics.jsonl").read_bytes() == before
    np.testing.assert_array_equal(
        again.state.players["net"].params["w"], result.state.players["net"].params["w"]
    )


def test_says_what_it_waits_for_before_the_first_step(tmp_path):
    """Compiling a large step takes minutes, which must not look like a hang."""
    shown = io.StringIO()
    _run(tmp_path / "run", progress=Progress(Console(file=shown, width=100)))
    first, second, *_, last = shown.getvalue().splitlines()
    assert (first, second) == ("run  building the network", "run  compiling the step")
    assert last.startswith("run  30/30  ")


KILLED = """
import os, pathlib, signal, sys
from tests.train.test_loop import Parallel, ONE, Progress, SETTINGS, _validate, fit, stream
from tests.train.toys import Regression
import jaxmedgen.train.loop as loop
kill_at = int(sys.argv[2])
class Killer(Progress):
    def advance(self, done):
        if done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
fit(Regression(), stream(), SETTINGS, pathlib.Path(sys.argv[1]), parallel=Parallel(ONE),
    validate=_validate, progress=Killer(quiet=True))
"""


@pytest.mark.parametrize("kill_at", [3, 20])
def test_sigkill_then_resume_gives_identical_files(finished, tmp_path, kill_at):
    """Killed before the first checkpoint, and right before an evaluation."""
    root = pathlib.Path(__file__).resolve().parents[2]
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), str(kill_at)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        timeout=120,
    )
    assert process.returncode == -signal.SIGKILL
    result = _run(tmp_path)
    workdir, expected = finished
    assert (tmp_path / "metrics.jsonl").read_bytes() == (workdir / "metrics.jsonl").read_bytes()
    np.testing.assert_array_equal(
        result.state.players["net"].params["w"], expected.state.players["net"].params["w"]
    )


def test_a_run_ends_where_no_validation_gets_better_and_stays_ended(tmp_path):
    """Losses 5 4 6 4 5: the best is at step 4; three later ones are no better."""
    settings = LoopSettings(
        steps=100, batch_size=4, eval_every=2, best_metric="loss", patience=3, checkpoint_every=50
    )
    losses = dict(zip(range(2, 100, 2), (5.0, 4.0, 6.0, 4.0, 5.0, 1.0)))

    def validate(state, step, stop):
        return {"loss": losses[step]}

    result = _run(tmp_path, settings=settings, validate=validate)
    assert int(result.state.step) == 10
    assert result.best == {"step": 4, "score": 4.0, "metric": "loss"}
    log = (tmp_path / "metrics.jsonl").read_bytes()
    assert int(_run(tmp_path, settings=settings, validate=validate).state.step) == 10
    assert (tmp_path / "metrics.jsonl").read_bytes() == log
    with pytest.raises(ValueError, match="patience=3 with eval_every=0"):
        LoopSettings(steps=4, batch_size=4, patience=3)


def _signal_when(condition, number=signal.SIGTERM):
    def wait():
        deadline = time.monotonic() + 60
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=wait, daemon=True).start()


def test_sigterm_while_training_saves_and_resumes(finished, tmp_path):
    class Terminate(Progress):
        def advance(self, done):
            if done == 11:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match=r"SIGTERM at step 11 of 30.*same command"):
        _run(tmp_path, progress=Terminate(quiet=True))
    assert (tmp_path / "checkpoints" / "last" / "11").exists()
    _run(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (finished[0] / "metrics.jsonl").read_bytes()


def test_sigterm_while_evaluating_repeats_the_evaluation(finished, tmp_path):
    def validate(state, step, stop):
        if step == 20:
            os.kill(os.getpid(), signal.SIGTERM)
            if stop:
                raise Interrupted
        return _validate(state, step, stop)

    with pytest.raises(Interrupted, match="step 20"):
        _run(tmp_path, validate=validate)
    _run(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (finished[0] / "metrics.jsonl").read_bytes()


def test_sigterm_while_compiling_leaves_soon(tmp_path):
    entered = threading.Event()

    class Slow(SlowToCompile):
        def prepare(self, batch, keys):
            entered.set()
            return super().prepare(batch, keys)

    _signal_when(entered.is_set)
    start = time.monotonic()
    with pytest.raises(Interrupted, match="step 0"):
        _run(tmp_path, system=Slow(seconds=8.0))
    assert time.monotonic() - start < 7
    assert (tmp_path / "checkpoints" / "last" / "0").exists()


def test_a_nan_stops_with_step_case_and_saved_state(tmp_path):
    settings = LoopSettings(steps=30, batch_size=4, checkpoint_every=100)
    with pytest.raises(NonFiniteError, match=r"step \d+ .*cases \[.*5.*\]") as caught:
        _run(tmp_path, system=Regression(poison_case=5), settings=settings)
    saved = list((tmp_path / "checkpoints" / "halted").iterdir())
    step = int(str(caught.value).split("step ")[1].split(" ")[0])
    assert [p.name for p in saved] == [str(step - 1)]
    host = json.loads((saved[0] / "host" / "metadata").read_text())
    assert 5 in host["ids"]["case"] and host["step"] == step


@pytest.mark.parametrize("where", ["save", "wait", "close"])
def test_a_nan_is_told_also_where_its_state_cannot_be_saved(tmp_path, monkeypatch, where):
    def full(self, *arguments, **keywords):
        raise CheckpointError("cannot write the checkpoint of step 1")

    monkeypatch.setattr(Checkpointer, where, full)
    settings = LoopSettings(steps=30, batch_size=4, checkpoint_every=100)
    told = r"state before it (may not be saved \(cannot write|is in)"
    with pytest.raises(NonFiniteError, match=told) as caught:
        _run(tmp_path, system=Regression(poison_case=5), settings=settings)
    assert ("cannot write" in str(caught.value)) == (where != "close")


def test_a_failed_save_at_sigterm_is_told(tmp_path, monkeypatch):
    class Terminate(Progress):
        def advance(self, done):
            if done == 3:
                os.kill(os.getpid(), signal.SIGTERM)

    def full(self):
        raise CheckpointError("cannot write the checkpoint of step 2")

    monkeypatch.setattr(Checkpointer, "wait", full)
    with pytest.raises(CheckpointError, match="step 2"):
        _run(tmp_path, progress=Terminate(quiet=True))


@pytest.mark.timeout(20)
def test_a_timeout_of_interruptible_work_is_raised():
    """It is of the same type as that of waiting for the work."""

    def work():
        raise TimeoutError("lock of the compilation cache")

    with StopSignal() as stop, pytest.raises(TimeoutError, match="lock"):
        run_interruptibly(work, stop)


def test_second_ctrl_c_is_immediate():
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop and stop.received == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)


def test_a_full_disk_is_named_and_loses_nothing(tmp_path, monkeypatch):
    settings = LoopSettings(steps=12, batch_size=4, checkpoint_every=6)
    original = Checkpointer._manager

    def full(self, kind):
        manager = original(self, kind)
        if manager.latest_step() == 6:
            monkeypatch.setattr(
                manager, "save", lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space"))
            )
        return manager

    monkeypatch.setattr(Checkpointer, "_manager", full)
    with pytest.raises(CheckpointError, match=r"step 12.*No space.*goes on from step 6"):
        _run(tmp_path, settings=settings, validate=None)
