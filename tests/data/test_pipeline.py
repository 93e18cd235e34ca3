import json
import threading

import numpy as np
import pytest

from jaxmedgen.data.pipeline import SampleStream, training_stream
from jaxmedgen.data.sources import ArraySource, DatasetInfo


def make_source(n=5, shape=(6, 7), label=True):
    rng = np.random.default_rng(0)
    records = []
    for _ in range(n):
        record = {"image": rng.normal(size=(*shape, 1)).astype(np.float32)}
        if label:
            record["label"] = rng.integers(0, 3, shape).astype(np.int32)
        records.append(record)
    names = tuple(f"case{i}" for i in range(n))
    return ArraySource(records, DatasetInfo(("background", "a", "b"), ("mr",), (1.0, 1.0), names))


def take(stream, n):
    return [next(stream) for _ in range(n)]


def assert_batches_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_every_epoch_is_a_new_permutation_and_nothing_is_dropped():
    source = make_source(7)
    stream = training_stream(source, batch_size=4, seed=3)
    batches = take(stream, 14)
    stream.close()
    np.testing.assert_array_equal(np.concatenate([b["index"] for b in batches]), np.arange(56))
    epochs = np.concatenate([b["case"] for b in batches]).reshape(8, 7)
    for epoch in epochs:
        assert sorted(epoch) == list(range(7))
    assert len({tuple(e) for e in epochs}) == 8
    for batch in batches:
        assert batch["image"].dtype == np.float32 and batch["image"].shape == (4, 6, 7, 1)
        for row, case in enumerate(batch["case"].tolist()):
            np.testing.assert_array_equal(batch["image"][row], source[case]["image"])
            np.testing.assert_array_equal(batch["label"][row], source[case]["label"])


def test_permutations_are_uniform():
    # 3 subjects, 6 orders: chi-square with 5 degrees of freedom stays below its 99.9 % point.
    stream = SampleStream(make_source(3), seed=1)
    n = 1200
    counts = {}
    for epoch in range(n):
        order = tuple(stream.source_index(3 * epoch + i) for i in range(3))
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 6
    assert sum((c - n / 6) ** 2 / (n / 6) for c in counts.values()) < 20.5


def test_neighbouring_seeds_share_no_epochs():
    def orders(seed):
        stream = SampleStream(make_source(16), seed=seed)
        return {tuple(stream.source_index(16 * e + i) for i in range(16)) for e in range(50)}

    assert not orders(0) & orders(1)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_seed_decides_and_threads_do_not(threads):
    source = make_source()
    settings = {"batch_size": 3, "patch_size": (3, 4)}
    a = training_stream(source, seed=1, num_threads=threads, **settings)
    b = training_stream(source, seed=1, num_threads=4, **settings)
    c = training_stream(source, seed=2, **settings)
    for x, y in zip(take(a, 6), take(b, 6)):
        assert_batches_equal(x, y)
    assert any(not np.array_equal(x["case"], y["case"]) for x, y in zip(take(a, 6), take(c, 6)))


@pytest.mark.parametrize("processes", [2, 3, 6])
def test_processes_together_give_the_same_global_batches(processes):
    source = make_source()
    settings = {"batch_size": 6, "seed": 5, "patch_size": (3, 4), "foreground_probability": 0.5}
    one = training_stream(source, **settings)
    many = [
        training_stream(source, process_index=p, process_count=processes, **settings)
        for p in range(processes)
    ]
    for _ in range(5):
        parts = [next(s) for s in many]
        joined = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
        assert_batches_equal(next(one), joined)
    assert one.get_state() == many[0].get_state() == many[-1].get_state()


def test_source_smaller_than_a_batch():
    batches = take(training_stream(make_source(2), batch_size=5, seed=0), 4)
    cases = np.concatenate([b["case"] for b in batches]).reshape(10, 2)
    assert np.all(np.sort(cases, axis=1) == [0, 1])


def test_resume_continues_with_the_next_batch():
    source = make_source()
    settings = {"batch_size": 2, "seed": 9, "patch_size": (4, 4)}
    whole = take(training_stream(source, **settings), 9)
    stream = training_stream(source, **settings, prefetch_samples=16)
    take(stream, 4)
    state = json.loads(json.dumps(stream.get_state()))
    assert state["position"] == 8
    fresh = training_stream(source, **settings)
    fresh.set_state(state)
    for expected, got in zip(whole[4:], take(fresh, 5)):
        assert_batches_equal(expected, got)
    # Back in time on a running stream, and on another number of processes.
    stream.set_state(state)
    assert_batches_equal(whole[4], next(stream))
    second = training_stream(source, **settings, process_index=1, process_count=2)
    second.set_state(state)
    assert_batches_equal({k: v[1:] for k, v in whole[4].items()}, next(second))


def test_another_streams_state_is_refused():
    state = training_stream(make_source(), batch_size=2, seed=1).get_state()
    with pytest.raises(ValueError, match="seed 1, this one has 2"):
        training_stream(make_source(), batch_size=2, seed=2).set_state(state)
    with pytest.raises(ValueError, match="subjects 5, this one has 4"):
        training_stream(make_source(4), batch_size=2, seed=1).set_state(state)


def test_images_without_labels():
    batch = next(training_stream(make_source(label=False), batch_size=2, seed=0, patch_size=(3, 3)))
    assert sorted(batch) == ["case", "image", "index"]


def test_mixed_shapes_name_the_subjects():
    small = make_source(2)
    other = make_source(2, shape=(5, 7))
    source = ArraySource([*small.records[:1], *other.records[:1]], small.info)
    with pytest.raises(ValueError, match=r"shape \(.*\) in subject \d but .* set a patch size"):
        next(training_stream(source, batch_size=2, seed=0))
    assert next(training_stream(source, batch_size=2, seed=0, patch_size=(6, 6)))[
        "image"
    ].shape == (
        2,
        6,
        6,
        1,
    )


def test_reading_errors_name_the_subject():
    class Broken(ArraySource):
        def __getitem__(self, index):
            if index == 3:
                raise OSError("disk gone")
            return super().__getitem__(index)

    good = make_source()
    source = Broken(good.records, good.info)
    stream = training_stream(source, batch_size=5, seed=0)
    with pytest.raises(OSError, match="disk gone") as caught:
        take(stream, 2)
    assert "case3" in caught.value.__notes__[0]


def test_close_leaves_no_threads():
    before = set(threading.enumerate())
    stream = training_stream(make_source(), batch_size=2, seed=0)
    take(stream, 2)
    stream.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=5)
    assert not set(threading.enumerate()) - before
    next(stream)  # starts again where it stopped
    assert stream.get_state()["position"] == 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 3, "process_count": 2}, "cannot be shared by 2"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"batch_size": 2, "process_count": 2, "process_index": 2}, "not in 0..1"),
        ({"batch_size": 2, "seed": -1}, "negative"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        training_stream(make_source(), **{"seed": 0, **settings})


def test_empty_source_is_refused():
    with pytest.raises(ValueError, match="empty"):
        training_stream(make_source(0), batch_size=1, seed=0)
