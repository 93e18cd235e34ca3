import gc
import threading
import time
import traceback

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxmedgen.data.pipeline import device_prefetch, training_stream
from jaxmedgen.data.sources import ArraySource, DatasetInfo


class Counter:
    """Host batches 0, 1, 2, ... with a state; fails or ends at chosen places."""

    def __init__(self, fail_at=None, end_at=None):
        self.position, self.fail_at, self.end_at = 0, fail_at, end_at
        self.closed = False

    def __iter__(self):
        return self

    def __next__(self):
        if self.position == self.fail_at:
            raise OSError("scanner on fire")
        if self.position == self.end_at:
            raise StopIteration
        self.position += 1
        value = self.position - 1
        return {"image": np.full((2, 3), value, np.float32), "index": np.int32([value, value])}

    def get_state(self):
        return {"position": self.position}

    def close(self):
        self.closed = True


def settle(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_state_after_belongs_to_the_batch_not_to_the_read_ahead():
    counter = Counter()
    with device_prefetch(counter, dict, size=3) as batches:
        for i in range(6):
            item = next(batches)
            assert item.batch["image"][0, 0] == i
            np.testing.assert_array_equal(item.ids["index"], [i, i])
            assert "case" not in item.ids
            assert item.state_after == {"position": i + 1}


def test_never_more_than_size_batches_ahead():
    counter = Counter()
    with device_prefetch(counter, dict, size=2) as batches:
        assert settle(lambda: counter.position == 2)
        time.sleep(0.05)
        assert counter.position == 2
        next(batches)
        assert settle(lambda: counter.position == 3)
        time.sleep(0.05)
        assert counter.position == 3
    assert counter.closed


def test_errors_surface_after_the_good_batches_with_their_traceback():
    batches = device_prefetch(Counter(fail_at=2), dict)
    assert [next(batches).batch["image"][0, 0] for _ in range(2)] == [0, 1]
    with pytest.raises(OSError, match="on fire") as caught:
        next(batches)
    text = "".join(traceback.format_exception(caught.value))
    assert 'raise OSError("scanner on fire")' in text and "_fill" in text
    with pytest.raises(OSError, match="on fire"):
        next(batches)
    batches.close()


def test_errors_of_put_surface_too():
    def put(batch):
        raise MemoryError("device is full")

    with device_prefetch(Counter(), put) as batches, pytest.raises(MemoryError, match="full"):
        next(batches)


def test_a_finite_iterator_ends():
    with device_prefetch(Counter(end_at=3), dict) as batches:
        assert len(list(batches)) == 3
        with pytest.raises(StopIteration):
            next(batches)


def test_close_and_garbage_collection_stop_the_thread():
    def workers():
        return [t for t in threading.enumerate() if t.name == "device-prefetch"]

    batches = device_prefetch(Counter(), dict)
    next(batches)
    batches.close()
    batches.close()
    assert not workers()
    with pytest.raises(RuntimeError, match="closed"):
        next(batches)
    dropped = device_prefetch(Counter(), dict)
    next(dropped)
    del dropped
    gc.collect()
    assert settle(lambda: not workers())


def test_bad_size_is_refused():
    with pytest.raises(ValueError, match="size 0"):
        device_prefetch(Counter(), dict, size=0)


def test_waiting_time_is_counted():
    class Slow(Counter):
        def __next__(self):
            time.sleep(0.05)
            return super().__next__()

    with device_prefetch(Slow(), dict) as batches:
        for _ in range(4):
            next(batches)
        assert 0.1 < batches.wait_seconds < 2


def test_training_stream_onto_a_mesh_and_resume():
    rng = np.random.default_rng(0)
    records = [
        {
            "image": rng.normal(size=(4, 4, 4, 1)).astype(np.float32),
            "label": rng.integers(0, 2, (4, 4, 4)).astype(np.int32),
        }
        for _ in range(5)
    ]
    info = DatasetInfo(("background", "a"), ("mr",), (1.0,) * 3, tuple("abcde"))
    source = ArraySource(records, info)
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("data", "space"))

    def put(batch):
        specs = {
            k: PartitionSpec("data", "space") if v.ndim > 2 else PartitionSpec("data")
            for k, v in batch.items()
        }
        return {
            k: jax.make_array_from_process_local_data(NamedSharding(mesh, specs[k]), v)
            for k, v in batch.items()
        }

    def stream():
        return training_stream(source, batch_size=4, seed=0)

    plain = stream()
    with device_prefetch(stream(), put) as batches:
        seen = [next(batches) for _ in range(5)]
    for item in seen:
        expected = next(plain)
        for name in expected:
            np.testing.assert_array_equal(np.asarray(item.batch[name]), expected[name])
        assert len(item.batch["image"].addressable_shards) == 4
        np.testing.assert_array_equal(item.ids["case"], expected["case"])
    resumed = stream()
    resumed.set_state(seen[1].state_after)
    np.testing.assert_array_equal(next(resumed)["index"], seen[2].ids["index"])
