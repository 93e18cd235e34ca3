"""The training loop: compile, step, log, evaluate, save - and go on where a killed run stopped.

A run killed at any moment loses at most the steps since its last checkpoint. A checkpoint carries
the input pipeline's position and the log's running sums, so that a resumed run writes the same
``metrics.jsonl``, bit for bit on the CPU.
"""

import collections
import contextlib
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxmedgen.data.prefetch import device_prefetch
from jaxmedgen.train.checkpoint import Checkpointer, CheckpointError
from jaxmedgen.train.collapse import CollapseWatch
from jaxmedgen.train.interrupt import Interrupted, StopSignal, run_interruptibly
from jaxmedgen.train.metrics_log import MetricsLog, RunningMeans, read_metrics
from jaxmedgen.train.objectives import check_accumulation
from jaxmedgen.train.parallel import Parallel
from jaxmedgen.train.profiling import StepProfiler
from jaxmedgen.train.progress import Progress
from jaxmedgen.train.state import TrainState
from jaxmedgen.train.step import make_step
from jaxmedgen.train.throughput import Throughput
from jaxmedgen.train.trainable import (
    FitResult,
    LoopSettings,
    NonFiniteError,
    Show,
    Trainable,
    Validate,
)

_LAG = 2  # steps in flight before the host waits for metrics: keeps the device busy
# The initial state is drawn once: on a CPU, compiling its random numbers well takes longer (20 s
# for a small U-Net) than compiling the training step.
_QUICKLY = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


def fit(
    system: Trainable,
    stream: Any,
    settings: LoopSettings,
    workdir: pathlib.Path,
    *,
    parallel: Parallel | None = None,
    validate: Validate | None = None,
    show: Show | None = None,
    stop: StopSignal | None = None,
    progress: Progress | None = None,
    name: str | None = None,
) -> FitResult:
    """Trains `system` on `stream` up to ``settings.steps``, from the last checkpoint if any.

    Args:
        system: players, objectives, prepare.
        stream: iterator of this process' rows of global batches with ``get_state``/``set_state``
            (`data.pipeline.training_stream`).
        settings: length, batch, frequencies.
        workdir: where checkpoints and logs go.
        parallel: mesh and backend; all devices by default.
        validate: scores the single-copy state; its metrics are logged as ``validation``.
        show: draws pictures of the single-copy state every ``settings.show_every`` steps.
        stop: an active signal catcher; by default one for the length of this call.
        progress: where to show progress; by default a bar in a terminal, lines elsewhere.
        name: of the run in the display; by default the folder's.

    Raises:
        Interrupted: SIGTERM or Ctrl-C; the state is saved.
        NonFiniteError: a loss or gradient was NaN or Inf; the state before it is saved.
        CheckpointError: a checkpoint cannot be written or read.
        ValueError: a batch that does not divide as the settings say.
    """
    if stop is None:
        with StopSignal() as stop:
            return fit(
                system,
                stream,
                settings,
                workdir,
                parallel=parallel,
                validate=validate,
                show=show,
                stop=stop,
                progress=progress,
                name=name,
            )
    parallel = Parallel() if parallel is None else parallel
    check_accumulation(system.objectives(), settings.accumulate)
    parallel.check_batch(settings.batch_size, settings.accumulate)
    run = _Run(system, stream, settings, pathlib.Path(workdir), parallel, validate, show, stop)
    with Progress() if progress is None else progress as shown:
        try:
            result = run.execute(shown, name or run.workdir.name)
        except BaseException:
            with contextlib.suppress(CheckpointError):  # what stopped the run matters more
                run.close()
            raise
        run.close()
        return result


class _Run:
    """One call of `fit`: the loop's mutable state, split into readable phases."""

    def __init__(self, system, stream, settings, workdir, parallel, validate, show, stop) -> None:
        self.system, self.stream, self.settings = system, stream, settings
        self.workdir, self.parallel, self.validate, self.show = workdir, parallel, validate, show
        self.stop = stop
        workdir.mkdir(parents=True, exist_ok=True)
        self.checkpoints = Checkpointer(workdir, settings.keep)
        self.started = time.perf_counter()
        self.pending: collections.deque = collections.deque()
        self.position: Any = stream.get_state()
        self.best: dict[str, Any] | None = None
        self.log: MetricsLog | None = None
        self.profiler = StepProfiler(workdir, settings.profile_at)

    def close(self) -> None:
        self.profiler.close()
        if self.log is not None:
            self.log.close()
        self.checkpoints.close()

    def execute(self, progress: Progress, name: str) -> FitResult:
        settings = self.settings
        progress.start(name, settings.steps)
        progress.note("building the network")
        state, host = self._initial_state()
        self.step = int(self.parallel.single(state.step))
        redo = bool(host and host["evaluation_due"])
        self.log = MetricsLog(self.workdir, self.step if host else None, redo)
        self.means = RunningMeans(host and host["means"])
        self.best = host and host["best"]
        if redo and self.validate is not None:
            self._evaluate(state)
        self.watch = CollapseWatch(read_metrics(self.log.path, split="train"))
        progress.start(name, settings.steps, self.step)
        if not settings.finished(self.step, self.best):
            state = self._train(state, progress)
        single = self.parallel.single(state)
        return FitResult(single, self.best, time.perf_counter() - self.started)

    def _initial_state(self) -> tuple[TrainState, dict | None]:
        example = next(self.stream)
        self.stream.set_state(self.position)
        key = jax.random.key(self.settings.seed)
        # Compiled, so that the forward pass that shapes the parameters is never run.
        quickly = _QUICKLY if jax.default_backend() == "cpu" else None
        state = jax.jit(self.system.init, compiler_options=quickly)(key, example)
        host = None
        if self.checkpoints.latest() is not None:
            state, host = self.checkpoints.restore(state)
            self.position = host["stream"]
            self.stream.set_state(self.position)
        return self.parallel.replicate(state), host

    def _train(self, state: TrainState, progress: Progress) -> TrainState:
        settings = self.settings
        step_function = make_step(
            self.system.objectives(),
            self.system.players(),
            prepare=self.system.prepare,
            accumulate=settings.accumulate,
        )
        compiled = None
        speed = Throughput(settings.batch_size, self.step)
        with device_prefetch(self.stream, self.parallel.put) as batches:
            while not settings.finished(self.step, self.best):
                with speed.waiting():
                    batch, ids, after = next(batches)
                if compiled is None:
                    progress.note("compiling the step")
                    compiled = self._compile(step_function, state, batch)
                    progress.note("")
                    speed.restart(self.step)
                self.profiler.before(self.step)
                state, metrics = compiled(state, batch)
                self.step += 1
                self.position = after
                self.pending.append((self.step, metrics, ids))
                self._collect(state, keep=_LAG)
                last = self.step == settings.steps
                if self.step % settings.log_every == 0 or last:
                    self._collect(state)
                    means = self.means.pop()
                    self.log.write(self.step, "train", means)
                    for warning in self.watch.add(self.step, means):
                        progress.say(f"step {self.step}: {warning}")
                    timing = speed.since_start(self.step)
                    self.log.write_timing(self.step, timing)
                    progress.metrics(self.step, means, timing)
                    speed.restart(self.step)
                progress.advance(self.step)
                self._boundaries(state)
        if self.step < settings.steps:
            progress.say(f"step {self.step}: no better validation since step {self.best['step']}")
        return state

    def _compile(self, step_function, state, batch):
        try:
            compiled = run_interruptibly(
                lambda: self.parallel.compile(step_function, state, batch), self.stop.alone()
            )
        except Interrupted:
            self._leave(state)
        if jax.process_count() > 1 and self.stop.agreed():
            self._leave(state)
        return compiled

    def _collect(self, state: TrainState, keep: int = 0) -> None:
        """Fetches metrics of finished steps, all but the newest `keep`."""
        while len(self.pending) > keep:
            step, metrics, ids = self.pending.popleft()
            values = self.parallel.fetch(metrics)
            if values.pop("halted") >= 0:
                self._halt(state, step, values, ids)
            self.means.add(values)

    def _boundaries(self, state: TrainState) -> None:
        """Evaluation, checkpoint and stop, in the order that lets a resume repeat them."""
        settings, every = self.settings, self.settings.eval_every
        last = self.step == settings.steps
        evaluates = self.validate is not None and every > 0 and (self.step % every == 0 or last)
        if evaluates:
            self._collect(state)
            before = time.perf_counter()
            try:
                self._evaluate(state)
            except Interrupted:
                self._leave(state, evaluation_due=True)
            self.log.write_timing(self.step, {"evaluation": time.perf_counter() - before})
            last = settings.finished(self.step, self.best)
        shown = settings.show_every
        if self.show is not None and shown > 0 and (self.step % shown == 0 or last):
            self._collect(state)
            self.log.write_pictures(self.step, self.show(self.parallel.single(state), self.step))
        if self.step % settings.checkpoint_every == 0 or last:
            self._collect(state)
            self._save(state)
        # All processes must agree at the same step, and asking costs a collective.
        asks = jax.process_count() == 1 or evaluates or self.step % 10 == 0
        if asks and self.stop.agreed():
            self._collect(state)
            self._leave(state)

    def _evaluate(self, state: TrainState) -> None:
        single = self.parallel.single(state)
        metrics = self.validate(single, self.step, self.stop.alone())
        self.log.write(self.step, "validation", metrics)
        score = metrics.get(self.settings.best_metric)
        if score is None or np.isnan(score):
            return
        if self.settings.better(score, self.best):
            self.best = self.settings.record(self.step, float(score))
            self.checkpoints.save(single, self._host(), kind="best")

    def _host(self, evaluation_due: bool = False) -> dict[str, Any]:
        return {
            "stream": self.position,
            "means": self.means.state(),
            "best": self.best,
            "evaluation_due": evaluation_due,
        }

    def _save(self, state: TrainState, evaluation_due: bool = False) -> None:
        self.checkpoints.save(self.parallel.single(state), self._host(evaluation_due))

    def _leave(self, state: TrainState, evaluation_due: bool = False) -> None:
        self._save(state, evaluation_due)
        self.checkpoints.wait()
        raise Interrupted(
            f"{self.stop.received or 'stop signal'} at step {self.step} of "
            f"{self.settings.steps}: saved in {self.workdir}; "
            "run the same command again to go on from there"
        )

    def _halt(
        self, state: TrainState, step: int, values: Mapping[str, float | int], ids: Any
    ) -> None:
        host = {"step": step, "ids": {k: np.asarray(v).tolist() for k, v in ids.items()}}
        saved = f"is in {self.checkpoints.folder / 'halted'}"
        try:
            self.checkpoints.save(self.parallel.single(state), host, kind="halted")
            self.checkpoints.wait()
        except CheckpointError as error:
            saved = f"may not be saved ({error})"
        brief = ", ".join(f"{k}={v:.4g}" for k, v in values.items())
        cases = sorted({int(c) for c in np.asarray(ids.get("case", [])).ravel()})
        raise NonFiniteError(
            f"non-finite loss or gradient at step {step} ({brief}), cases {cases}: the "
            f"state before it {saved}; look at these cases, or lower optimizer.learning_rate or "
            "set optimizer.clip_norm"
        )
