"""Paths through a latent space: between slices of a subject, between subjects, along an attribute.

Latent matrices ``[n, d]`` have a row for each slice. On the host, in float64.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline

SLICES = 32
"""Slices that stacks are equalised to, as in Amirrajab et al., MELBA 2023:010."""


def latents_between(
    latents: Float[np.ndarray, "n d"],
    positions: Float[np.ndarray, " m"],
    *,
    low: Float[np.ndarray, " d"] | None = None,
    high: Float[np.ndarray, " d"] | None = None,
) -> Float[np.ndarray, "m d"]:
    """Latent vectors between the slices of a stack, a cubic spline in each dimension.

    Splines overshoot at the ends of a stack: values are clipped.

    Args:
        latents: of the slices, in order.
        positions: in slices, from 0 to n - 1.
        low: least value of each dimension; by default that of the stack.
        high: largest value of each dimension; by default that of the stack.
    """
    latents = latents.astype(np.float64)
    low = latents.min(0) if low is None else low
    high = latents.max(0) if high is None else high
    if len(latents) == 1:
        between = np.repeat(latents, len(positions), 0)
    else:
        between = CubicSpline(np.arange(len(latents)), latents)(positions)
    return np.clip(between, low, high)


def equalise_slices(
    latents: Float[np.ndarray, "n d"], count: int = SLICES, **limits: Float[np.ndarray, " d"]
) -> Float[np.ndarray, "count d"]:
    """The stack at `count` equal steps from its first to its last slice; see `latents_between`."""
    return latents_between(latents, np.linspace(0, len(latents) - 1, count), **limits)


def interpolate_latents(
    start: Float[np.ndarray, "*s d"],
    end: Float[np.ndarray, "..."],
    t: float | int,
    method: Literal["linear", "spherical"] | str = "linear",
) -> Float[np.ndarray, "*s d"]:
    """A point on the way from one latent vector to another; beyond them for t outside [0, 1].

    ``linear``: ``(1 - t) a + t b``, which passes through rarely visited places when d is large;
    ``spherical``: at constant angular speed on the arc between them (Shoemake 1985; White 2016),
    lengths interpolated linearly.

    Raises:
        ValueError: unknown method, or shapes that differ.
    """
    if start.shape != end.shape:
        raise ValueError(f"latents of shapes {start.shape} and {end.shape}: equalise both first")
    if method == "linear":
        return (1 - t) * start + t * end
    if method != "spherical":
        raise ValueError(f"method '{method}': choose linear or spherical")
    lengths = [np.linalg.norm(x, axis=-1, keepdims=True) for x in (start, end)]
    first, last = (x / np.maximum(n, 1e-12) for x, n in zip((start, end), lengths))
    angle = np.arccos(np.clip((first * last).sum(-1, keepdims=True), -1, 1))
    sine = np.sin(angle)
    flat = sine < 1e-6
    safe = np.where(flat, 1.0, sine)
    weights = (
        np.where(flat, 1 - t, np.sin((1 - t) * angle) / safe),
        np.where(flat, t, np.sin(t * angle) / safe),
    )
    direction = weights[0] * first + weights[1] * last
    return direction * ((1 - t) * lengths[0] + t * lengths[1])


@dataclasses.dataclass(frozen=True)
class AttributeDirection:
    """A direction along which an attribute changes, from a linear regression.

    Attributes:
        direction: step that raises the attribute by 1 at the least distance in the population's
            own metric, ``[n, d]``.
        mean: of the attribute over the training subjects.
        deviation: likewise.
        explained: share of the attribute's variance that the regression explains.
    """

    direction: Float[np.ndarray, "n d"]
    mean: float
    deviation: float
    explained: float


def regress_attribute(
    latents: Float[np.ndarray, "m n d"],
    attribute: Float[np.ndarray, " m"],
    ridge: float | int = 1.0,
) -> AttributeDirection:
    """Where an attribute of whole subjects (a volume, a thickness) grows.

    Ridge regression of the attribute on the latents less their means, one penalty for all of them;
    the gradient g is turned into the step ``C g / (g^T C g)`` with the covariance C of the
    subjects, the likeliest one that changes the attribute by 1: it stays where subjects are.

    Args:
        latents: equalised stacks of the training subjects.
        attribute: a number for each of them.
        ridge: weight of the penalty ``|g|^2``, in mean squared lengths of a subject's latents less
            their means.

    Raises:
        ValueError: fewer than three subjects, or one value for all of them.
    """
    count = len(latents)
    spread = float(attribute.std(ddof=1)) if count > 2 else 0.0
    if spread == 0:
        raise ValueError(f"{count} subjects with one value: an attribute must vary over three")
    flat = latents.reshape(count, -1).astype(np.float64)
    centred = flat - flat.mean(0)
    target = attribute - attribute.mean()
    # In the space of subjects: there are fewer of them than latent numbers.
    gram = centred @ centred.T
    scale = np.trace(gram) / count
    weight = np.linalg.solve(gram + ridge * scale * np.eye(count), target)
    gradient = centred.T @ weight
    explained = 1 - float(np.sum((target - centred @ gradient) ** 2) / np.sum(target**2))
    step = centred.T @ (centred @ gradient) / (count - 1)
    direction = (step / (gradient @ step)).reshape(latents.shape[1:])
    return AttributeDirection(direction, float(attribute.mean()), spread, explained)


def reach_attribute(
    start: Float[np.ndarray, "n d"],
    direction: AttributeDirection,
    target: float | int,
    measure: Callable[[Float[np.ndarray, "n d"]], float],
    *,
    iterations: int = 8,
    tolerance: float | int = 0.02,
) -> tuple[Float[np.ndarray, "n d"], float]:
    """Steps along a direction until the measured attribute is the wanted one.

    The regression gives the first step; secants correct it by what the decoded subject measures.

    Args:
        start: a subject.
        direction: of the attribute.
        target: wanted value.
        measure: attribute of a latent matrix, decoded.
        iterations: measurements at most.
        tolerance: in standard deviations of the attribute.

    Returns:
        The latent matrix that came nearest, and its attribute.
    """
    lengths, values = [0.0], [measure(start)]
    length = float(target) - values[0]
    for _ in range(iterations):
        if abs(values[-1] - target) <= tolerance * direction.deviation:
            break
        lengths.append(length)
        values.append(measure(start + length * direction.direction))
        slope = (values[-1] - values[-2]) / (lengths[-1] - lengths[-2] or 1e-12)
        # A flat or turned slope would throw the next step far off.
        slope = slope if 0.1 < slope < 10 else 1.0
        length = lengths[-1] + (target - values[-1]) / slope
    best = int(np.argmin(np.abs(np.asarray(values) - target)))
    return start + lengths[best] * direction.direction, values[best]
