"""Two processes with two CPU devices each, over Gloo: the numbers of one process, one stop."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from jaxmedgen.train.parallel import BACKENDS, ParallelSettings
from tests.train.test_parallel import run
from tests.train.toys import Regression

_START = """
import json, os, sys
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"localhost:{sys.argv[2]}", 2, int(sys.argv[1]))
import pathlib
from jaxmedgen.data.pipeline import training_stream
from jaxmedgen.train.loop import fit
from jaxmedgen.train.parallel import Parallel, ParallelSettings
from jaxmedgen.train.progress import Progress
from jaxmedgen.train.trainable import LoopSettings
from tests.train.toys import Regression, blobs

def stream():
    return training_stream(blobs(24), batch_size=8, seed=0, num_threads=0,
        process_index=jax.process_index(), process_count=2)
"""

WORKER = (
    _START
    + """
assert len(jax.devices()) == 4 and len(jax.local_devices()) == 2
for steps in (10, 20):  # the second call resumes from the first one's checkpoint
    settings = LoopSettings(steps=steps, batch_size=8, log_every=1, checkpoint_every=10)
    fit(Regression(), stream(), settings, pathlib.Path(sys.argv[3]),
        parallel=Parallel(ParallelSettings(sys.argv[4], data=4)), progress=Progress(quiet=True))
"""
)

# A scheduler that takes one host while it compiles, the next time while it evaluates.
STOPPED = (
    _START
    + """
import signal, time
from jaxmedgen.train.interrupt import Interrupted

def terminate(process):
    if jax.process_index() == process:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.3)  # so that whoever polls for it would see it

class Compiling(Regression):
    def prepare(self, batch, keys):
        terminate(1)
        return super().prepare(batch, keys)

def validate(state, step, stop):
    if step == 15:
        terminate(0)
        if stop:
            raise Interrupted("alone")
    return {"dice": step / 100}

settings = LoopSettings(steps=40, batch_size=8, log_every=5, checkpoint_every=10, eval_every=15)
for system, step in ((Compiling(), 0), (Regression(), 15)):
    try:
        fit(system, stream(), settings, pathlib.Path(sys.argv[3]), validate=validate,
            parallel=Parallel(ParallelSettings(sys.argv[4], data=4)),
            progress=Progress(quiet=True))
    except Interrupted as stopped:
        assert f"at step {step} of 40" in str(stopped), stopped
    else:
        raise AssertionError("not stopped")
"""
)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def _run_two(script, workdir, backend):
    """Runs a script in two processes; both must succeed."""
    root, port = pathlib.Path(__file__).resolve().parents[2], str(_free_port())
    environment = {**os.environ, "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
    environment.pop("XLA_FLAGS", None)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(index), port, str(workdir), backend],
            cwd=root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    outputs = [worker.communicate(timeout=240)[0] for worker in workers]
    assert [w.returncode for w in workers] == [0, 0], outputs[0][-3000:] + outputs[1][-3000:]


@pytest.mark.parametrize("backend", BACKENDS)
def test_parity_of_two_processes_over_gloo(tmp_path, backend):
    """Trains 10 steps, saves, resumes to 20: the metrics of a run on one device."""
    _run_two(WORKER, tmp_path, backend)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 21))
    expected, _ = run(Regression(), ParallelSettings(data=1))
    np.testing.assert_allclose(
        [line["loss"] for line in lines], [e["loss"] for e in expected], rtol=1e-5
    )


def test_processes_leave_together_when_one_is_asked_to(tmp_path):
    """In phases of each process' own they would wait for it in a collective, for ever."""
    _run_two(STOPPED, tmp_path, "jit")
    assert (tmp_path / "checkpoints" / "last" / "15").exists()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [x["step"] for x in lines if x["split"] == "validation"] == [15]
