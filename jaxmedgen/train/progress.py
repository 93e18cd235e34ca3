"""Progress with time left: a rich bar in a terminal, plain lines elsewhere."""

import time
from collections.abc import Mapping

import jax
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress


class Progress:
    """Shows one task at a time; process 0 only. Use as a context manager.

    Entering it twice (an experiment around its trainings) keeps the outer display.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        """Chooses bar, lines or silence.

        Args:
            console: where to print; standard error by default.
            quiet: print nothing.
        """
        self.console = Console(stderr=True) if console is None else console
        self._quiet = quiet or jax.process_index() != 0
        self._bar: RichProgress | None = None
        self._task, self._depth = None, 0
        self._name, self._total, self._last_line = "", 0, 0.0

    def __enter__(self) -> "Progress":
        self._depth += 1
        if self._depth == 1 and not self._quiet and self.console.is_terminal:
            self._bar = RichProgress(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[numbers]}"),
                console=self.console,
            )
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0 and self._bar is not None:
            self._bar.stop()
            self._bar = None

    def say(self, text: str) -> None:
        """A line above the bar."""
        if not self._quiet:
            self.console.print(text, highlight=False)

    def start(self, name: str, total: int, done: int = 0) -> None:
        """Begins a task of `total` steps of which `done` are finished."""
        self._name, self._total, self._last_line = name, total, time.monotonic()
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(name, total=total, completed=done, numbers="")

    def advance(self, done: int) -> None:
        """Moves the task to `done` steps."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done)

    def note(self, text: str) -> None:
        """What the task is busy with: beside the bar, or as a line if it is not empty."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, numbers=text)
        elif text and not self._quiet:
            self.console.print(f"{self._name}  {text}", highlight=False)

    def metrics(
        self,
        step: int,
        values: Mapping[str, float | int],
        timing: Mapping[str, float | int] | None = None,
    ) -> None:
        """Shows numbers: beside the bar, or as a line at most every five seconds."""
        text = "  ".join(f"{k} {v:.4g}" for k, v in list(values.items())[:3])
        if timing:
            text += f"  {timing['samples_per_second']:.3g} samples/s"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, numbers=text)
        elif not self._quiet:
            now = time.monotonic()
            if now - self._last_line >= 5 or step == self._total:
                self._last_line = now
                self.console.print(f"{self._name}  {step}/{self._total}  {text}", highlight=False)
