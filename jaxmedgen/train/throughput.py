"""How fast a training goes between two lines of its log."""

import contextlib
import time
from collections.abc import Iterator


class Throughput:
    """Clock of one window of steps after another.

    Attributes:
        batch_size: samples a step.
    """

    def __init__(self, batch_size: int, step: int) -> None:
        """Starts at a finished step."""
        self.batch_size = batch_size
        self.restart(step)

    def restart(self, step: int) -> None:
        """Begins a window after a finished step; what went before is forgotten."""
        self._step, self._since, self._waited = step, time.perf_counter(), 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time within as waiting for data."""
        before = time.perf_counter()
        yield
        self._waited += time.perf_counter() - before

    def since_start(self, step: int) -> dict[str, float]:
        """Samples a second, seconds a step and share of the time that the data were waited for.

        Args:
            step: the window's last finished one, after that of its start.
        """
        seconds, count = time.perf_counter() - self._since, step - self._step
        return {
            "samples_per_second": count * self.batch_size / seconds,
            "seconds_per_step": seconds / count,
            "share_waiting_for_data": self._waited / seconds,
        }
