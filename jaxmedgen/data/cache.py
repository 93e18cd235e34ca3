"""A cache of arrays by name and key: in memory, or as memory-mapped files.

On disk an entry is one `.npy` a array and a JSON file that lists them, written last: an entry is
whole or absent. The key is a hash of all that the content depends on, so stale entries are never
read; the folder may be deleted at any time. Nothing is pickled.

Every mapped array holds a file descriptor for as long as it lives, of which a process has about a
thousand: only the entries that were asked for last stay mapped.
"""

import collections
import errno
import hashlib
import json
import os
import pathlib
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxmedgen.data.atomic import write_atomically

_VERSION = 2
"""Raise when cached content would be computed differently by newer code."""

_MAPPED = 32
"""Entries of arrays that stay mapped, with a descriptor an array."""


def content_key(files: Sequence[pathlib.Path], *settings: Any) -> str:
    """A key of files (by path, size and time of change) and JSON-able settings.

    Raises:
        OSError: a file is missing.
    """
    stats = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    text = json.dumps([_VERSION, stats, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


class RecordCache:
    """Arrays and facts by name and key; safe to use from several threads and processes."""

    def __init__(self, folder: str | os.PathLike | None = None):
        """Keeps entries in `folder`, or in memory without one."""
        self._folder = None if folder is None else pathlib.Path(folder)
        self._memory: dict[tuple[str, str], Any] = {}
        self._mapped: collections.OrderedDict[tuple[str, str], Any] = collections.OrderedDict()
        self._guard = threading.Lock()
        self._locks: dict[tuple[str, str], threading.Lock] = collections.defaultdict(threading.Lock)

    def arrays(
        self, name: str, key: str, make: Callable[[], Mapping[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """The entry's arrays, made first if absent; read-only, from disk memory mapped.

        Who keeps many of them should keep copies: a mapped array holds a file descriptor.

        Raises:
            OSError: the entry cannot be read or written, say for want of file descriptors.
        """
        kept = self._memory if self._folder is None else self._mapped
        return dict(self._get(name, key, make, self._load_arrays, self._save_arrays, kept))

    def facts(self, name: str, key: str, make: Callable[[], Any]) -> Any:
        """A JSON-able entry, made first if absent.

        Raises:
            OSError: the entry cannot be read or written.
        """
        return self._get(name, key, make, self._load_json, self._save_json, self._memory)

    def _get(self, name: str, key: str, make: Any, load: Any, save: Any, kept: Any) -> Any:
        with self._guard:
            lock = self._locks[name, key]
        with lock:  # one thread makes an entry, the others wait for it
            with self._guard:
                if (name, key) in kept:
                    if kept is self._mapped:
                        kept.move_to_end((name, key))
                    return kept[name, key]
            entry = None if self._folder is None else self._read(load, name, key)
            if entry is None:
                entry = make()
                if self._folder is not None:
                    save(self._path(name, key), entry)
                    entry = self._read(load, name, key)
                    if entry is None:
                        raise OSError(
                            f"{self._path(name, key)}: is gone or damaged right after it was "
                            "written; check the disk, and that nothing empties the cache folder"
                        )
            if isinstance(entry, Mapping):
                for value in entry.values():
                    if isinstance(value, np.ndarray):
                        value.flags.writeable = False
            with self._guard:
                kept[name, key] = entry
                if kept is self._mapped and len(kept) > _MAPPED:
                    kept.popitem(last=False)
            return entry

    def _read(self, load: Any, name: str, key: str) -> Any:
        try:
            return load(self._path(name, key))
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            raise OSError(
                f"{error.filename}: too many files are open; raise the limit (ulimit -n 65536), "
                "or leave data.cache empty"
            ) from error

    def _path(self, name: str, key: str) -> pathlib.Path:
        # Case names come from file names, but may be long or hold odd characters.
        return self._folder / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)[:80]}-{key}"

    def _save_json(self, path: pathlib.Path, entry: Any) -> None:
        text = json.dumps(entry)
        write_atomically(f"{path}.json", lambda file: file.write(text.encode()))

    def _load_json(self, path: pathlib.Path) -> Any:
        try:
            return json.loads(pathlib.Path(f"{path}.json").read_text())
        except (FileNotFoundError, ValueError):  # other errors would come back when it is written
            return None

    def _save_arrays(self, path: pathlib.Path, entry: Mapping[str, np.ndarray]) -> None:
        for array_name, array in entry.items():
            array = np.ascontiguousarray(array)
            write_atomically(
                f"{path}-{array_name}.npy",
                lambda file, a=array: np.save(file, a, allow_pickle=False),
            )
        self._save_json(path, sorted(entry))

    def _load_arrays(self, path: pathlib.Path) -> dict[str, np.ndarray] | None:
        names = self._load_json(path)
        if not isinstance(names, list):
            return None
        try:
            return {n: np.load(f"{path}-{n}.npy", mmap_mode="r", allow_pickle=False) for n in names}
        except (FileNotFoundError, ValueError, EOFError):
            return None
