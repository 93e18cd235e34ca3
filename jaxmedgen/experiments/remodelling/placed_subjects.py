"""Where a trained classifier of shapes places its subjects, and what their classes are called."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxmedgen.data.sources import Source
from jaxmedgen.experiments.shape_generation import batch_of, in_chunks
from jaxmedgen.systems.base import PlayerVariables

CHUNK = 50
"""Subjects or draws that go through a model at a time."""


class Subjects(NamedTuple):
    """Subjects as the topmost level has them.

    Attributes:
        names: of the cases.
        latents: posterior means ``[n, d]``.
        target: classes.
        probability: of class 1.
    """

    names: Sequence[str]
    latents: Float[np.ndarray, "n d"]
    target: Int[np.ndarray, " n"]
    probability: Float[np.ndarray, " n"]


def place_subjects(system: Any, variables: PlayerVariables, source: Source) -> Subjects:
    """Encodes and classifies the subjects of a source."""

    @jax.jit
    def look(variables, batch):
        mean, _ = system.encode_levels(variables, batch)[system.top]
        return mean, jax.nn.softmax(system.scores(variables, mean))[:, 1]

    batch = batch_of(source, range(len(source)))
    target = np.asarray(batch["target"])
    found = in_chunks(lambda part: look(variables, part), {"image": batch["image"]}, chunk=CHUNK)
    return Subjects(source.info.case_names, found[0], target, found[1])


def class_number(condition: str, names: Sequence[str]) -> int:
    """The class that a name or a number means.

    Raises:
        ValueError: neither of a class.
    """
    for number, name in enumerate(names):
        if condition.lower() in (name.lower(), str(number)):
            return number
    raise ValueError(f"--condition {condition}: choose one of {', '.join(names)}, or its number")
