"""Batches a second of the input pipeline, against a plain Python loop over the same work.

    python benchmarks/pipeline.py [--seconds 3]

Patches with a third on foreground, batch 2, from 8 subjects of 160 x 192 x 160 voxels with 5
structures: held in memory, and read from a folder through its on-disk cache. The last column is
the share that a training step of 100 ms would wait for data.
"""

import argparse
import pathlib
import tempfile
import time
from collections.abc import Callable

import numpy as np

from jaxmedgen.data import patches
from jaxmedgen.data.folders import FolderSource
from jaxmedgen.data.nifti import write_volume
from jaxmedgen.data.pipeline import device_prefetch, training_stream
from jaxmedgen.data.preprocess import Preprocessing
from jaxmedgen.data.sources import ArraySource, DatasetInfo, Source

SHAPE = (160, 192, 160)
BATCH = 2


def subject(seed: int) -> dict[str, np.ndarray]:
    """A noisy image with five balls."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij", sparse=False)).astype("f4")
    label = np.zeros(SHAPE, np.int32)
    for value in range(1, 6):
        centre = rng.uniform(0.25, 0.75, 3) * SHAPE
        label[((grid - centre[:, None, None, None]) ** 2).sum(0) < (6 * value) ** 2] = value
    image = label + rng.normal(size=SHAPE).astype(np.float32)
    return {"image": image[..., None].astype(np.float32), "label": label}


def rate(step: Callable[[], object], seconds: float) -> float:
    """Calls of `step` a second, after one to warm up."""
    for _ in range(10):
        step()
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        step()
        count += 1
    return count / (time.perf_counter() - begin)


def plain_loop(source: Source, size: int) -> Callable[[], object]:
    """The same batches made one after another in the calling thread, searching foreground anew."""
    rng = np.random.default_rng(0)

    def step() -> dict[str, np.ndarray]:
        cut = [
            patches.random_patch(source[int(i)], (size,) * 3, rng)
            for i in rng.integers(0, len(source), BATCH)
        ]
        return {name: np.stack([c[name] for c in cut]) for name in cut[0]}

    return step


def waiting(source: Source, size: int, step_seconds: float = 0.1, steps: int = 20) -> float:
    """Share of time a step of `step_seconds` waits for data behind `device_prefetch`."""
    import jax

    stream = training_stream(source, batch_size=BATCH, seed=0, patch_size=(size,) * 3)
    with device_prefetch(stream, jax.device_put) as batches:
        for _ in range(10):
            next(batches)
        before = batches.wait_seconds
        for _ in range(steps):
            next(batches)
            time.sleep(step_seconds)
        return (batches.wait_seconds - before) / (steps * step_seconds)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="time a measurement")
    seconds = parser.parse_args().seconds
    records = [subject(i) for i in range(8)]
    names = tuple(f"case{i}" for i in range(8))
    info = DatasetInfo(tuple("0abcde"), ("mr",), (1.0,) * 3, names)
    memory = ArraySource(records, info)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name, record in zip(names, records):
            write_volume(root / f"images/{name}.nii.gz", record["image"][..., 0], np.eye(4))
            write_volume(root / f"labels/{name}.nii.gz", record["label"], np.eye(4))
        begin = time.perf_counter()
        settings = Preprocessing(spacing="native")
        cached = FolderSource(root, settings, cache_folder=root / "cache")
        checked = time.perf_counter()
        for i in range(len(cached)):
            cached[i]
        filled = time.perf_counter()
        FolderSource(root, settings, cache_folder=root / "cache")
        print(
            f"8 subjects of {SHAPE}: checked in {checked - begin:.2f} s, preprocessed in "
            f"{filled - checked:.2f} s, opened again in {time.perf_counter() - filled:.2f} s"
        )
        print("source   patch  threads  batches/s  loop/s   ratio  wait at 100 ms/step")
        for label, source in (("memory", memory), ("cached", cached)):
            for size in (48, 64):
                loop = rate(plain_loop(source, size), seconds)
                for threads in (0, 1, 2, 4):
                    stream = training_stream(
                        source, batch_size=BATCH, seed=0, patch_size=(size,) * 3,
                        num_threads=threads,
                    )  # fmt: skip
                    ours = rate(lambda s=stream: next(s), seconds)
                    stream.close()
                    wait = f"{100 * waiting(source, size):6.2f} %" if threads == 4 else ""
                    print(
                        f"{label:8} {size:5} {threads:8} {ours:10.1f} {loop:7.1f} "
                        f"{ours / loop:6.1f}x {wait}"
                    )


if __name__ == "__main__":
    main()
