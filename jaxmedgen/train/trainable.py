"""What the loop takes and gives: a trainable system, settings, a result, a bad step's error."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from jaxmedgen.train.interrupt import StopSignal
from jaxmedgen.train.objectives import Objective, PlayerSettings
from jaxmedgen.train.state import TrainState


@runtime_checkable
class Trainable(Protocol):
    """What the loop needs of a system (`systems.base.System`)."""

    def players(self) -> Mapping[str, PlayerSettings]:
        """Optimiser settings by player."""
        ...

    def init(self, key: Any, batch: Any) -> TrainState:
        """A fresh state for batches shaped like `batch`."""
        ...

    def objectives(self) -> tuple[Objective, ...]:
        """What is trained."""
        ...

    def prepare(self, batch: Any, keys: Any) -> Any:
        """On-device transform of a batch before the losses."""
        ...


Validate = Callable[[TrainState, int, StopSignal], Mapping[str, float | int]]
"""``(state, step, stop) -> metrics``; polls `stop` and raises `Interrupted`."""

Show = Callable[[TrainState, int], Mapping[str, Any]]
"""``(state, step) -> pictures``, uint8 ``[h, w, 3]`` by name, for TensorBoard."""


@dataclasses.dataclass(frozen=True)
class LoopSettings:
    """How long and how often.

    Attributes:
        steps: optimiser steps of the run.
        batch_size: global batch.
        seed: of the initial parameters, the batches' order and all augmentation.
        accumulate: micro-batches a step.
        log_every: steps a line of training metrics.
        eval_every: steps between validations (and one at the end); 0 for none.
        checkpoint_every: steps between checkpoints (and one at the end).
        best_metric: validation metric that selects ``checkpoints/best``: larger is better, of
            ``loss`` smaller.
        patience: validations in a row without a better one after which the run ends early; 0 for
            never.
        keep: number of last checkpoints kept.
        show_every: steps between pictures (and some at the end); 0 for none.
        profile_at: trace five steps from this one on into ``profile/``; -1 for none.
    """

    steps: int
    batch_size: int
    seed: int = 0
    accumulate: int = 1
    log_every: int = 20
    eval_every: int = 0
    checkpoint_every: int = 200
    best_metric: str = "dice"
    keep: int = 2
    show_every: int = 0
    profile_at: int = -1
    patience: int = 0

    def __post_init__(self) -> None:
        if self.patience < 0 or (self.patience and not self.eval_every):
            raise ValueError(
                f"patience={self.patience} with eval_every={self.eval_every}: give 0 or more "
                "validations, and the steps between them in eval_every"
            )

    def better(self, score: float, best: Mapping[str, Any] | None) -> bool:
        """Whether a validation's score is the best so far."""
        sign = -1 if self.best_metric == "loss" else 1
        return best is None or sign * score > sign * best["score"]

    def record(self, step: int, score: float) -> dict[str, Any]:
        """The best validation as checkpoints keep it."""
        return {"step": step, "score": score, "metric": self.best_metric}

    def finished(self, step: int, best: Mapping[str, Any] | None) -> bool:
        """Whether the run ends after a step: all steps are done, or no validation got better."""
        waiting = self.patience and best is not None
        return step >= self.steps or bool(
            waiting and step - best["step"] >= self.patience * self.eval_every
        )


@dataclasses.dataclass(frozen=True)
class FitResult:
    """The end of a run: final state (one copy), best validation score, seconds of this call."""

    state: TrainState
    best: Mapping[str, Any] | None
    seconds: float


class NonFiniteError(FloatingPointError):
    """A loss or gradient was NaN or Inf; the message names step, cases and the saved state."""
