"""A trace of a few steps of a training."""

import pathlib

import jax

_STEPS = 5


class StepProfiler:
    """Traces five steps from a given one on into ``profile/`` of a folder."""

    def __init__(self, workdir: pathlib.Path, first: int) -> None:
        """Traces nothing if `first` is negative."""
        self._folder, self._first = workdir / "profile", first
        self._running = False

    def before(self, step: int) -> None:
        """To be called before each step, with the number of finished ones."""
        if self._first >= 0 and step == self._first:
            jax.profiler.start_trace(str(self._folder))
            self._running = True
        elif self._running and step == self._first + _STEPS:
            self.close()

    def close(self) -> None:
        """Writes a trace that is still running."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
