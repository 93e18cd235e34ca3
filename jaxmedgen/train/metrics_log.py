"""The run's numbers: ``metrics.jsonl`` as the truth, TensorBoard events beside it.

``metrics.jsonl`` holds one object a line - ``step``, ``split`` and metric name -> number - and only
numbers that a resumed run repeats bit for bit; speeds go to ``timing.jsonl``. Process 0 writes.
"""

import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping

import jax
import numpy as np
import tensorboardX

SPLITS = ("train", "validation", "test")


class MetricsLog:
    """Appends metrics to the files of one work folder."""

    def __init__(
        self,
        workdir: pathlib.Path,
        resume_step: int | None = None,
        redo_evaluation: bool = False,
        rescored: int | None = None,
    ) -> None:
        """Opens the files; lines after `resume_step` (a killed run's) are dropped.

        Args:
            workdir: the run's folder.
            resume_step: step of the restored checkpoint; None starts empty files.
            redo_evaluation: drop the validation of that very step too, it is done again.
            rescored: step of a finished run that is tested: all is kept but its earlier scores.
        """
        self.path = pathlib.Path(workdir) / "metrics.jsonl"
        self._timing = pathlib.Path(workdir) / "timing.jsonl"
        self._writer = None
        if jax.process_index() != 0:
            return
        for path in (self.path, self._timing):
            fresh = resume_step is None and rescored is None
            kept = [] if fresh else read_metrics(path, last_step=resume_step)
            if redo_evaluation:
                kept = [
                    k for k in kept if (k.get("split"), k["step"]) != ("validation", resume_step)
                ]
            if rescored is not None:
                kept = [k for k in kept if (k.get("split"), k["step"]) != ("test", rescored)]
            partial = path.with_suffix(".partial")
            partial.write_text("".join(json.dumps(line) + "\n" for line in kept))
            os.replace(partial, path)
        # TensorBoard drops this step and later ones: that of the checkpoint itself is kept.
        purge = None if resume_step is None else resume_step + (not redo_evaluation)
        self._writer = tensorboardX.SummaryWriter(
            str(pathlib.Path(workdir) / "tensorboard"), purge_step=purge
        )

    def write(self, step: int, split: str, metrics: Mapping[str, float | int]) -> None:
        """One line of results; non-finite numbers are written as null.

        Raises:
            ValueError: unknown split.
        """
        if split not in SPLITS:
            raise ValueError(f"unknown split '{split}': choose one of {', '.join(SPLITS)}")
        self._append(self.path, {"step": step, "split": split, **_plain(metrics)})
        self._scalars(step, {f"{split}/{k}": v for k, v in metrics.items()})

    def write_timing(self, step: int, timing: Mapping[str, float | int]) -> None:
        """Speeds (samples/s, share of time waiting for data): not part of the result."""
        self._append(self._timing, {"step": step, **_plain(timing)})
        self._scalars(step, {f"timing/{k}": v for k, v in timing.items()})

    def write_pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Pictures uint8 ``[h, w, 3]`` by name, for TensorBoard."""
        if self._writer is not None:
            for name, picture in pictures.items():
                self._writer.add_image(f"samples/{name}", picture, step, dataformats="HWC")

    def close(self) -> None:
        """Flushes and closes."""
        if self._writer is not None:
            self._writer.close()

    def _scalars(self, step: int, values: Mapping[str, float | int]) -> None:
        if self._writer is not None:
            for name, value in values.items():
                if math.isfinite(value):
                    self._writer.add_scalar(name, value, step)

    def _append(self, path: pathlib.Path, line: Mapping[str, object]) -> None:
        if self._writer is None:
            return
        with path.open("a") as file:  # closed at once: a kill loses no finished line
            file.write(json.dumps(line) + "\n")


def read_metrics(
    path: pathlib.Path, *, split: str | None = None, last_step: int | None = None
) -> list[dict]:
    """Lines of a metrics file, a torn last line (a kill while writing) left out."""
    lines = []
    if not pathlib.Path(path).exists():
        return lines
    for text in pathlib.Path(path).read_text().splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if split is not None and line.get("split") != split:
            continue
        if last_step is None or line["step"] <= last_step:
            lines.append(line)
    return lines


class RunningMeans:
    """Means since the last log line; NaN (an objective that did not run) is left out.

    Sums are Python floats, which survive JSON exactly: a resumed run logs the same means.
    """

    def __init__(self, state: Mapping[str, Iterable[float | int]] | None = None) -> None:
        self._sums = {name: tuple(pair) for name, pair in (state or {}).items()}

    def add(self, metrics: Mapping[str, float | int]) -> None:
        """Adds one step's scalars."""
        for name, value in metrics.items():
            total, count = self._sums.get(name, (0.0, 0))
            if not math.isnan(value):
                total, count = total + value, count + 1
            self._sums[name] = (total, count)

    def state(self) -> dict[str, list[float | int]]:
        """JSON-able sums and counts."""
        return {name: list(pair) for name, pair in self._sums.items()}

    def pop(self) -> dict[str, float]:
        """The means so far; starts over."""
        means = {n: total / count for n, (total, count) in self._sums.items() if count}
        self._sums = {}
        return means


def _plain(metrics: Mapping[str, float | int]) -> dict[str, float | None]:
    return {k: float(v) if math.isfinite(v) else None for k, v in metrics.items()}
