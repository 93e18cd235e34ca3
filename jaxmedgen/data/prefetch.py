"""Device prefetch: the next batches are on the device before the step asks for them.

One background thread takes host batches from an iterator and puts them on the devices while the
current step runs. With every batch comes the iterator state that resumes right behind it, so a
checkpoint never skips batches that were prefetched but not trained on.
"""

import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Batches(Protocol):
    """What `device_prefetch` reads: an iterator of host batches with a state."""

    def __next__(self) -> Mapping[str, np.ndarray]: ...

    def get_state(self) -> Any:
        """State that resumes behind the last batch handed out."""
        ...


class DeviceBatch(NamedTuple):
    """A batch on the devices and what the host must know of it.

    Attributes:
        batch: the device arrays, as `put` made them.
        ids: this process's `index` and `case` rows, still numpy.
        state_after: iterator state that resumes right behind this batch.
    """

    batch: Any
    ids: dict[str, np.ndarray]
    state_after: Any


class _Failure(NamedTuple):
    error: BaseException


def _fill(iterator: Any, put: Any, ready: queue.SimpleQueue, room: Any, stop: Any) -> None:
    """Thread body; holds no reference to the consumer, so that an unused one can be collected."""
    try:
        while True:
            room.acquire()
            if stop.is_set():
                return
            host = next(iterator)
            state = iterator.get_state()
            ids = {name: np.asarray(host[name]) for name in ("index", "case") if name in host}
            ready.put(DeviceBatch(put(host), ids, state))
    except BaseException as error:
        ready.put(_Failure(error))


def _shut_down(stop: threading.Event, room: threading.Semaphore) -> None:
    stop.set()
    room.release()


class DevicePrefetch(Iterator[DeviceBatch]):
    """Iterator of `DeviceBatch`; a context manager that stops its thread. See `device_prefetch`."""

    def __init__(
        self, iterator: Batches, put: Callable[[Mapping[str, np.ndarray]], Any], size: int = 2
    ):
        if size < 1:
            raise ValueError(f"prefetch size {size} is below 1")
        self.wait_seconds = 0.0
        """Time the consumer has spent waiting for data so far."""
        self._iterator = iterator
        self._ready: queue.SimpleQueue = queue.SimpleQueue()
        # Counts free places, taken before a batch is read: never more than `size` batches wait.
        self._room = threading.Semaphore(size)
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(
            target=_fill,
            args=(iterator, put, self._ready, self._room, self._stop),
            name="device-prefetch",
            daemon=True,
        )
        self._finalizer = weakref.finalize(self, _shut_down, self._stop, self._room)
        self._thread.start()

    def __next__(self) -> DeviceBatch:
        if self._failure is not None:
            raise self._failure
        if self._stop.is_set():
            raise RuntimeError("this prefetcher is closed: make a new one to read on")
        begin = time.perf_counter()
        item = self._ready.get()
        self.wait_seconds += time.perf_counter() - begin
        if isinstance(item, _Failure):
            self._failure = item.error
            self._thread.join()
            raise item.error
        self._room.release()
        return item

    def close(self) -> None:
        """Stops the thread and closes the host iterator; batches still waiting are dropped.

        The host iterator has then run ahead: set its state to the last `state_after` before
        reading on from it.
        """
        self._finalizer()
        self._thread.join()
        while not self._ready.empty():
            self._ready.get()
        if hasattr(self._iterator, "close"):
            self._iterator.close()

    def __enter__(self) -> "DevicePrefetch":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def device_prefetch(
    iterator: Batches, put: Callable[[Mapping[str, np.ndarray]], Any], size: int = 2
) -> DevicePrefetch:
    """Reads `iterator` in a background thread and puts its batches on the devices.

    Args:
        iterator: host batches with `get_state()`, as from `training_stream`. The prefetcher takes
            it over and closes it in the end.
        put: makes device arrays of this process's rows; for a mesh,
            `lambda b: {k: jax.make_array_from_process_local_data(sharding[k], v) for k, v in
            b.items()}`.
        size: batches held ready on the devices, beside the one in use.

    Returns:
        An iterator of `DeviceBatch(batch, ids, state_after)` that works with `with`. An exception
        of the iterator or of `put` is raised in the consumer with its own traceback, after the
        batches before it.
    """
    return DevicePrefetch(iterator, put, size)
