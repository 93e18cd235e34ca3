"""From a healthy shape to a diseased one along the gradient of the classifier, decoded."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxmedgen.metrics.shape_model import dice
from jaxmedgen.ops.latent_navigation import ascend_class
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.shape.lvae import LadderShapeVae

MARKS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Probabilities of the disease at which shapes are shown."""
RATE = 0.1
STEPS = 500


@dataclasses.dataclass(frozen=True)
class Walk:
    """The walk of one vector.

    Attributes:
        latents: ``[t, d]`` of the topmost level.
        probability: of the disease along it.
        shapes: probabilities ``[5, *s, c]`` at the points nearest to `MARKS`.
        places: numbers of these points.
        random: shapes ``[r, *s, c]`` after random steps of the whole walk's length.
    """

    latents: Float[np.ndarray, "t d"]
    probability: Float[np.ndarray, " t"]
    shapes: Float[np.ndarray, "m *s c"]
    places: tuple[int, ...]
    random: Float[np.ndarray, "r *s c"]

    @property
    def monotone(self) -> bool:
        """Whether the probability never falls by more than rounding."""
        return bool((np.diff(self.probability) > -1e-4).all())

    @property
    def kept(self) -> float:
        """Dice of the last shape with the first, mean over phases."""
        first, last = (self.shapes[k] > 0.5 for k in (0, -1))
        return float(np.mean([dice(first[None, ..., c], last[None, ..., c])[0]
                              for c in range(first.shape[-1])]))  # fmt: skip

    def septal_share(self) -> tuple[float, float]:
        """Share of the added voxels in the septal half: of the walk, and of random steps."""
        first = self.shapes[0] > 0.5
        walked = _septal(self.shapes[-1] > 0.5, first)
        return walked, float(np.nanmean([_septal(x > 0.5, first) for x in self.random]))


def walk(
    system: LadderShapeVae,
    variables: PlayerVariables,
    start: Float[np.ndarray, " d"],
    radius: float | int,
    seed: int = 0,
    draws: int = 16,
) -> Walk:
    """Walks from a vector of the topmost level until the disease is all but certain.

    Args:
        system: the model.
        variables: of its trained state.
        start: a subject's posterior mean, or that of a class.
        radius: longest vector of a training subject: the walk stays within.
        seed: of the random directions.
        draws: their number.
    """

    @jax.jit
    def ascend(variables, start):
        scores = lambda z: system.scores(variables, z)  # noqa: E731
        return ascend_class(scores, start, 1, rate=RATE, steps=STEPS, radius=radius)

    @jax.jit
    def decode(variables, z):
        return system.decode_below(variables, {system.top: z})

    path = ascend(variables, jnp.asarray(start, jnp.float32)[None])
    latents, chance = np.asarray(path.latents)[:, 0], np.asarray(path.probability)[:, 0]
    places = tuple(int(np.abs(chance - mark).argmin()) for mark in MARKS)
    places = (0, *places[1:-1], len(chance) - 1)
    length = np.linalg.norm(latents[-1] - latents[0])
    directions = np.random.default_rng(seed).normal(size=(draws, len(start)))
    directions *= length / np.linalg.norm(directions, axis=1, keepdims=True)
    points = np.concatenate([latents[list(places)], latents[0] + directions])
    shapes = np.asarray(decode(variables, jnp.asarray(points, jnp.float32)))
    return Walk(latents, chance, shapes[: len(MARKS)], places, shapes[len(MARKS) :])


def _septal(shape, start) -> float:
    """The septum is at the low end of the last axis in space."""
    added = shape & ~start
    half = added[..., : added.shape[-2] // 2, :]
    return float(half.sum() / added.sum()) if added.any() else float("nan")
