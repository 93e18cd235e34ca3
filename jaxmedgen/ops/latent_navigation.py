"""Walks through a latent space along the gradient of a classifier: what makes a shape diseased?

Biffi et al., "Learning interpretable anatomical features through deep generative models:
application to cardiac remodeling", MICCAI 2018: ``z_{t+1} = z_t + rate d score_class / dz``.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from jaxmedgen.types import Leaf


@struct.dataclass
class LatentPath:
    """A walk of each of b vectors.

    Attributes:
        latents: ``[t, b, d]``, the start first.
        probability: of the class that is walked to, ``[t, b]``.
    """

    latents: Leaf
    probability: Leaf


def ascend_class(
    scores: Callable[[Float[Array, " b d"]], Float[Array, " b k"]],
    start: Float[Array, " b d"],
    target: int,
    *,
    rate: float | int = 0.1,
    steps: int = 500,
    stop: float | int = 0.999,
    radius: Float[Array, ""] | float | int | None = None,
) -> LatentPath:
    """Gradient ascent of a class score; each vector rests once its probability exceeds `stop`.

    Args:
        scores: classifier, before the softmax, in inference mode.
        start: first vectors.
        target: class.
        rate: step size.
        steps: largest number of steps.
        stop: probability at which a walk ends.
        radius: longest vector; longer ones are pulled back to it, so that a walk does not leave
            where the decoder has been trained (say, the largest norm of a training subject).
    """

    def probability(z):
        return jax.nn.softmax(scores(z))[:, target]

    def step(z, _):
        gradient = jax.grad(lambda z: scores(z)[:, target].sum())(z)
        moved = z + rate * gradient
        if radius is not None:
            norm = jnp.linalg.norm(moved, axis=-1, keepdims=True)
            moved = moved * jnp.minimum(1.0, radius / jnp.maximum(norm, 1e-12))
        z = jnp.where((probability(z) > stop)[:, None], z, moved)
        return z, (z, probability(z))

    _, (latents, chance) = jax.lax.scan(step, start, length=steps)
    return LatentPath(
        jnp.concatenate([start[None], latents]),
        jnp.concatenate([probability(start)[None], chance]),
    )
