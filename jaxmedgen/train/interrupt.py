"""SIGTERM and Ctrl-C: a flag that the loop polls in every phase, and a hint how to go on.

Schedulers send SIGTERM before they kill. The handler only sets a flag; training, evaluation and
compilation (which runs in a thread for this reason) look at it, save, and leave.
"""

import concurrent.futures
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

import jax

T = TypeVar("T")
_WORKER = "interruptible-work"


class Interrupted(Exception):
    """The run was asked to stop and has saved; the message says how to resume."""


class StopSignal:
    """Catches SIGTERM and SIGINT while it is active (use as a context manager).

    A second Ctrl-C raises KeyboardInterrupt at once.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name

    def __bool__(self) -> bool:
        return self.received is not None

    def alone(self) -> "StopSignal":
        """What a phase without agreement may poll: with several processes, one that never comes.

        A process that left on its own would leave the others waiting for it in a collective.
        """
        return self if jax.process_count() == 1 else StopSignal()

    def agreed(self) -> bool:
        """Whether any process was asked to stop; all processes must call it at the same step."""
        if jax.process_count() == 1:
            return bool(self)
        from jax.experimental import multihost_utils

        flags = multihost_utils.process_allgather(jax.numpy.int32(bool(self)))
        return bool(flags.any())


def run_interruptibly(work: Callable[[], T], stop: StopSignal, poll_seconds: float = 0.1) -> T:
    """Runs `work` (a compilation, say) in a thread while the main thread watches `stop`.

    Raises:
        Interrupted: a signal came; `work` is left to finish on its own and its result is dropped.
    """
    result: concurrent.futures.Future[T] = concurrent.futures.Future()

    def target() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    # A daemon thread: the interpreter must not wait for a compilation nobody wants any more.
    threading.Thread(target=target, daemon=True, name=_WORKER).start()
    # Not result(timeout=...): a TimeoutError of the work itself would look like more waiting.
    while not concurrent.futures.wait([result], timeout=poll_seconds).done:
        if stop:
            raise Interrupted(stop.received)
    return result.result()


def abandoned_work() -> bool:
    """Whether a thread of `run_interruptibly` still runs, though nobody waits for it.

    An interpreter that shuts down under a compiling thread is aborted with a message of the C++
    runtime; leave by `os._exit` then.
    """
    return any(t.name == _WORKER and t.is_alive() for t in threading.enumerate())
