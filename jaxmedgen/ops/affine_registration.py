"""Affine registration of images to a target, or of a group to its own mean.

Minimises the mean squared difference over maps ``exp([[A, t], [0, 0]])`` by Adam, from smooth to
sharp. Without a target the maps of a group are found together, each against the mean of all moved
images ("congealing": Learned-Miller, "Data driven image models through continuous joint alignment",
2006); the mean of their logarithms is kept at zero, or the mean image could leave the view.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxmedgen.ops.filters import gaussian_filter
from jaxmedgen.ops.resample import resample
from jaxmedgen.ops.transformers import DiffeomorphicAffine

FAMILY = DiffeomorphicAffine()


def register_affine(
    images: Float[Array, " b *s c"],
    target: Float[Array, "..."] | None = None,
    *,
    smoothing: Sequence[float | int] = (3.0, 1.5, 0.75),
    iterations: int = 60,
    learning_rate: float | int = 0.01,
) -> Float[Array, " b k"]:
    """Parameters of the map of each image that makes it like the target.

    Args:
        images: 2D or 3D, on one grid; roughly centred, or descent may find a wrong match.
        target: a fixed image, ``[*s, c]``; None aligns the images to each other.
        smoothing: standard deviations in voxels, one a stage.
        iterations: of each stage.
        learning_rate: of Adam, in half images, radians and logarithms.

    Returns:
        Parameters of `transformers.DiffeomorphicAffine`: ``resample(images,
        DiffeomorphicAffine().coordinates(parameters, shape), mode="constant")`` are the aligned
        images. Of a group their sum is zero.

    Raises:
        ValueError: a target of another shape, or fewer than two images and no target.
    """
    if target is None and len(images) < 2:
        raise ValueError("register_affine: one image and no target; give a target or two images")
    if target is not None and target.shape != images.shape[1:]:
        raise ValueError(
            f"register_affine: target {target.shape} for images {images.shape[1:]}: "
            "bring them onto one grid"
        )
    parameters = jnp.zeros((len(images), FAMILY.size(images.shape[1:-1])))
    for sigma in smoothing:
        parameters = _stage(parameters, images, target, sigma, iterations, learning_rate)
    return parameters


@functools.partial(jax.jit, static_argnames="iterations")
def _stage(parameters, images, target, sigma, iterations, learning_rate):
    """Adam at one width of smoothing; the rate falls to 0, or the last steps would be noise."""
    widths = jnp.full((1,), sigma)
    smooth = gaussian_filter(images, jnp.broadcast_to(widths, len(images)))
    fixed = None if target is None else gaussian_filter(target[None], widths)
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, iterations))

    def centred(free):
        return free - free.mean(0) if fixed is None else free

    def loss(free):
        points = FAMILY.coordinates(centred(free), images.shape[1:-1])
        moved = resample(smooth, points, mode="constant")
        wanted = moved.mean(0, keepdims=True) if fixed is None else fixed
        # One image does not slow another down: Adam is free of scale.
        return jnp.sum((moved - wanted) ** 2) / (moved[0].size)

    def step(carry, _):
        free, state = carry
        updates, state = optimizer.update(jax.grad(loss)(free), state)
        return (optax.apply_updates(free, updates), state), None

    (free, _), _ = jax.lax.scan(step, (parameters, optimizer.init(parameters)), length=iterations)
    return centred(free)
