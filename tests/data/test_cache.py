import contextlib
import os
import resource
import threading
import time

import numpy as np
import pytest

from jaxmedgen.data.cache import RecordCache, content_key
from jaxmedgen.data.pipeline import SampleStream
from jaxmedgen.data.sources import DatasetInfo, in_memory


def make():
    make.calls += 1
    time.sleep(0.02)
    return {"image": np.arange(6, dtype=np.float32).reshape(2, 3), "label": np.int32([1, 2])}


@pytest.fixture(autouse=True)
def reset():
    make.calls = 0


@pytest.mark.parametrize("on_disk", [False, True])
def test_made_once_by_many_threads_and_read_only(tmp_path, on_disk):
    cache = RecordCache(tmp_path if on_disk else None)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(cache.arrays("a b/c", "k", make)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert make.calls == 1 and len(found) == 6
    np.testing.assert_array_equal(found[0]["image"], [[0, 1, 2], [3, 4, 5]])
    with pytest.raises(ValueError, match="read-only"):
        found[0]["image"][0, 0] = 9
    assert isinstance(found[0]["image"], np.memmap) == on_disk


def test_entries_outlive_the_process_and_keys_tell_them_apart(tmp_path):
    RecordCache(tmp_path).arrays("a", "k", make)
    again = RecordCache(tmp_path)
    assert again.arrays("a", "k", make)["label"].dtype == np.int32 and make.calls == 1
    again.arrays("a", "other", make)
    assert make.calls == 2
    assert again.facts("a", "f", lambda: {"x": [1.5]}) == {"x": [1.5]}
    assert RecordCache(tmp_path).facts("a", "f", lambda: 1 / 0) == {"x": [1.5]}


@pytest.mark.parametrize("damage", ["truncate", "remove", "listing"])
def test_damaged_entries_are_made_again(tmp_path, damage):
    RecordCache(tmp_path).arrays("a", "k", make)
    file = tmp_path / ("a-k.json" if damage == "listing" else "a-k-image.npy")
    if damage == "remove":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-4])
    entry = RecordCache(tmp_path).arrays("a", "k", make)
    assert make.calls == 2
    np.testing.assert_array_equal(entry["image"], [[0, 1, 2], [3, 4, 5]])


def test_pickles_are_never_loaded(tmp_path):
    RecordCache(tmp_path).arrays("a", "k", make)
    np.save(tmp_path / "a-k-image.npy", np.array([print], object), allow_pickle=True)
    assert RecordCache(tmp_path).arrays("a", "k", make)["image"].shape == (2, 3)
    assert make.calls == 2


def test_key_depends_on_files_and_settings(tmp_path):
    file = tmp_path / "scan"
    file.write_text("a")
    key = content_key([file], {"spacing": 1})
    assert content_key([file], {"spacing": 1}) == key != content_key([file], {"spacing": 2})
    file.write_text("ab")
    assert content_key([file], {"spacing": 1}) != key
    with pytest.raises(FileNotFoundError):
        content_key([tmp_path / "none"])


def test_many_entries_hold_few_descriptors(tmp_path):
    """Each mapped array holds one, of which a process has about a thousand."""
    cache = RecordCache(tmp_path)
    quick = {"image": np.zeros(3, np.float32), "label": np.zeros(3, np.int32)}
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        for number in range(150):
            entry = cache.arrays(f"case{number}", "k", lambda n=number: {**quick, "n": np.int32(n)})
            assert entry["n"] == number
    assert len(os.listdir("/proc/self/fd")) - before < 120
    names = tuple(f"case{number}" for number in range(150))

    class Cached:
        info = DatasetInfo(("background",), ("a",), (1.0,), names)

        def __len__(self):
            return 150

        def __getitem__(self, index):
            return cache.arrays(names[index], "k", make)

    kept = in_memory(Cached())
    assert len(os.listdir("/proc/self/fd")) - before < 120 and kept[149]["n"] == 149
    ahead = [SampleStream(Cached(), 0)[position] for position in range(150)]
    assert len(os.listdir("/proc/self/fd")) - before < 120 and len(ahead) == 150
    assert make.calls == 0


def test_the_want_of_descriptors_is_told(tmp_path):
    """It must not pass for an absent entry, which would be made again and then be None."""
    RecordCache(tmp_path).arrays("a", "k", make)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = []
    try:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 8, limits[1])
        )
        with contextlib.suppress(OSError):
            while True:
                files.append(open(os.devnull))
        with pytest.raises(OSError, match=r"too many files are open; raise the limit"):
            RecordCache(tmp_path).arrays("a", "k", make)
    finally:
        for file in files:
            file.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert make.calls == 1


def test_an_entry_that_vanishes_is_told(tmp_path, monkeypatch):
    cache = RecordCache(tmp_path)
    monkeypatch.setattr(cache, "_save_arrays", lambda path, entry: None)
    with pytest.raises(OSError, match="is gone or damaged right after it was written"):
        cache.arrays("a", "k", make)
