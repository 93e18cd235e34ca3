"""From a source to batches: one endless, seeded sample stream, dealt out to processes.

The stream is a pure function of the seed: sample `g` (counted from 0 over the whole run) is subject
`stream.source_index(g)`, cut with a generator seeded by `(seed, g)`. Every epoch is a new
permutation; epochs follow each other without a gap, so no sample is dropped and a source smaller
than a batch is repeated inside it. Global batch `k` holds samples `kB ... (k+1)B - 1`; of `P`
processes, process `p` reads only its rows `kB + pB/P ...`. Batches are therefore the same whatever
the number of processes, and the state of the pipeline is one number.

Reading runs on grain's threads: decompression, numpy and scipy release the interpreter lock, and
threads share one cache of the data where worker processes would each hold a copy.
"""

import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from jaxmedgen.data import patches
from jaxmedgen.data.prefetch import DeviceBatch, DevicePrefetch, device_prefetch
from jaxmedgen.data.sources import Source, unmapped

__all__ = [
    "DeviceBatch",
    "DevicePrefetch",
    "SampleStream",
    "TrainingStream",
    "device_prefetch",
    "training_stream",
]


class SampleStream:
    """The endless global sample stream: `stream[g]` is sample `g`, reproducibly."""

    def __init__(
        self,
        source: Source,
        seed: int,
        patch_size: Sequence[int] | None = None,
        foreground_probability: float = 0.33,
    ):
        """Checks the settings; reads nothing yet.

        Raises:
            ValueError: an empty source or a negative seed.
        """
        if len(source) == 0:
            raise ValueError("the training source is empty: give it at least one subject")
        if seed < 0:
            raise ValueError(f"seed {seed} is negative: take a number from 0 on")
        self.source = source
        self.seed = seed
        self.patch_size = None if patch_size is None else tuple(patch_size)
        self.foreground_probability = foreground_probability
        # A few epochs' permutations: batches straddle epochs and threads run ahead.
        self._permutation = functools.lru_cache(maxsize=4)(self._draw_permutation)
        self._locations = functools.lru_cache(maxsize=4096)(self._find_locations)

    def _draw_permutation(self, epoch: int) -> np.ndarray:
        # Ranks of raw generator words: numpy keeps bit generators stable over its versions, but
        # not `Generator.permutation`, and a resumed run may live under a newer numpy.
        words = np.random.PCG64(np.random.SeedSequence((self.seed, 0, epoch)))
        return np.argsort(words.random_raw(len(self.source)), kind="stable")

    def _find_locations(self, index: int) -> patches.ClassLocations:
        return patches.class_locations(self.source[index]["label"])

    def source_index(self, position: int) -> int:
        """The subject shown at a position of the stream."""
        epoch, rank = divmod(position, len(self.source))
        return int(self._permutation(epoch)[rank])

    def __getitem__(self, position: int) -> dict[str, np.ndarray]:
        """Sample `position`: the record's arrays plus `index` and `case` (int32 scalars).

        A ``spacing`` of the record is left out.

        Raises:
            Exception: what the source raises, with a note that names the subject.
        """
        case = self.source_index(position)
        try:
            sample = self._cut(case, position)
        except Exception as error:
            error.add_note(f"while reading subject {case} ({self.source.info.case_names[case]})")
            raise
        sample["index"] = np.int32(position % 2**31)
        sample["case"] = np.int32(case)
        return sample

    def _cut(self, case: int, position: int) -> dict[str, np.ndarray]:
        # A batch is of one grid; who needs a subject's own spacing asks the source.
        record = {n: array for n, array in self.source[case].items() if n != "spacing"}
        if self.patch_size is None:
            return unmapped(record)  # samples read ahead would hold file descriptors
        wants_foreground = self.foreground_probability > 0 and "label" in record
        return patches.random_patch(
            record,
            self.patch_size,
            np.random.default_rng((self.seed, 1, position)),
            foreground_probability=self.foreground_probability,
            locations=self._locations(case) if wants_foreground else None,
        )


class _ProcessRows:
    """The samples one process reads, in order: a random-access source for grain."""

    def __init__(self, stream: SampleStream, batch_size: int, first_row: int, rows: int, at: int):
        self.stream, self.batch_size = stream, batch_size
        self.first_row, self.rows, self.at = first_row, rows, at

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        batch, row = divmod(index, self.rows)
        return self.stream[self.at + batch * self.batch_size + self.first_row + row]


def _stack(samples: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    first = samples[0]
    for sample in samples:
        for name in first.keys() | sample.keys():
            if name not in first or name not in sample:
                raise ValueError(
                    f"subject {sample['case']} and subject {first['case']} differ in having a "
                    f"{name!r}: leave those without it out of the source"
                )
            if np.shape(sample[name]) != np.shape(first[name]):
                raise ValueError(
                    f"{name!r} has shape {np.shape(sample[name])} in subject {sample['case']} but "
                    f"{np.shape(first[name])} in subject {first['case']}: set a patch size, or a "
                    "shape in the preprocessing"
                )
    return {name: np.stack([sample[name] for sample in samples]) for name in first}


class TrainingStream(Iterator[dict[str, np.ndarray]]):
    """Endless iterator over one process's rows of the global batches.

    Batches are dicts of numpy arrays: `image` float32 `[rows, *s, c]`, `label` int32 `[rows, *s]`,
    `index` int32 `[rows]` (position in the global stream, modulo 2^31) and `case` int32 `[rows]`
    (subject number in the source). Build it with `training_stream`.
    """

    def __init__(
        self,
        stream: SampleStream,
        batch_size: int,
        process_index: int,
        process_count: int,
        read_options: grain.ReadOptions,
    ):
        self._stream = stream
        self._batch_size = batch_size
        self._rows = batch_size // process_count
        self._first_row = process_index * self._rows
        self._read_options = read_options
        self._position = 0
        self._batches: Any = None

    @property
    def sample_stream(self) -> SampleStream:
        """The global stream behind the batches."""
        return self._stream

    def __next__(self) -> dict[str, np.ndarray]:
        if self._batches is None:
            rows = _ProcessRows(
                self._stream, self._batch_size, self._first_row, self._rows, self._position
            )
            dataset = grain.MapDataset.source(rows).to_iter_dataset(self._read_options)
            self._batches = iter(dataset.batch(self._rows, batch_fn=_stack))
        batch = next(self._batches)
        self._position += self._batch_size
        return batch

    def get_state(self) -> dict[str, int]:
        """Where the next batch begins; JSON-able, the same for every process.

        Read-ahead does not count: only batches that were handed out move the position.
        """
        return {
            "position": self._position,
            "seed": self._stream.seed,
            "subjects": len(self._stream.source),
        }

    def set_state(self, state: Mapping[str, int]) -> None:
        """Goes to a saved position; the number of processes may differ from then.

        Raises:
            ValueError: the state is of another stream (other seed or number of subjects).
        """
        here = self.get_state()
        for name in ("seed", "subjects"):
            if state[name] != here[name]:
                raise ValueError(
                    f"the saved data position belongs to a stream with {name} {state[name]}, this "
                    f"one has {here[name]}: resume with the same data and seed"
                )
        self.close()
        self._position = int(state["position"])

    def close(self) -> None:
        """Stops the reading threads; the next batch starts them again."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None


def training_stream(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    patch_size: Sequence[int] | None = None,
    foreground_probability: float = 0.33,
    process_index: int = 0,
    process_count: int = 1,
    num_threads: int = 4,
    prefetch_samples: int | None = None,
) -> TrainingStream:
    """Endless shuffled batches of `source`, this process's rows of each.

    Args:
        source: subjects; read lazily, from several threads at once.
        batch_size: samples in a global batch.
        seed: decides order and patches, nothing else does.
        patch_size: spatial shape of random patches; None takes whole volumes, which must then all
            have one shape.
        foreground_probability: share of patches centred on foreground (`patches.random_patch`).
        process_index: number of this process along the data axis.
        process_count: processes along the data axis.
        num_threads: reading threads; 0 reads in the calling thread.
        prefetch_samples: samples read ahead; two batches by default.

    Raises:
        ValueError: an empty source, or a batch size that the processes cannot share.
    """
    if batch_size < 1 or process_count < 1 or batch_size % process_count:
        raise ValueError(
            f"batch_size {batch_size} cannot be shared by {process_count} processes: "
            "take a multiple of their number"
        )
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index {process_index} is not in 0..{process_count - 1}")
    if prefetch_samples is None:
        prefetch_samples = max(2 * batch_size // process_count, num_threads)
    options = grain.ReadOptions(
        num_threads=num_threads, prefetch_buffer_size=prefetch_samples if num_threads else 0
    )
    stream = SampleStream(source, seed, patch_size, foreground_probability)
    return TrainingStream(stream, batch_size, process_index, process_count, options)
