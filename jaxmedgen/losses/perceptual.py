"""Losses between images through feature maps, and through gradients where there are no features.

Sources: Johnson et al., ECCV 2016, and Wang et al., CVPR 2018 (perceptual loss with the weights
below); Mathieu et al., ICLR 2016 (differences of gradients).
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.ops.upsample import average_pool3

WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
"""Of VGG-19's five maps; fewer maps take the last of them."""

Features = Callable[[Float[Array, "b *s c"]], Sequence[Float[Array, "b *_ k"]]]
"""Images to feature maps, fine to coarse."""


def perceptual_loss(
    features: Features,
    fake: Float[Array, "b *s c"],
    real: Float[Array, "b *s c"],
    weights: Sequence[float | int] | None = None,
) -> Float[Array, ""]:
    """``sum_i w_i mean |phi_i(fake) - phi_i(real)|``; no gradient flows into the real side.

    Args:
        features: phi, with fixed parameters; differentiable.
        fake: generated images.
        real: images they should resemble.
        weights: one a map; by default the last of `WEIGHTS`.

    Raises:
        ValueError: another number of weights than maps.
    """
    ours, theirs = features(fake), features(jax.lax.stop_gradient(real))
    weights = WEIGHTS[-len(ours) :] if weights is None else weights
    if len(weights) != len(ours):
        raise ValueError(f"{len(weights)} weights for {len(ours)} feature maps: give one each")
    return sum(
        w * jnp.mean(jnp.abs(f.astype(jnp.float32) - jax.lax.stop_gradient(r).astype(jnp.float32)))
        for w, f, r in zip(weights, ours, theirs)
    )


def gradient_features(
    image: Float[Array, "b *s c"], scales: int = 3
) -> tuple[Float[Array, "b *_ k"], ...]:
    """The image and its differences along each axis, at several resolutions.

    As `features` of `perceptual_loss` a multi-scale L1 loss of image and gradient: it knows nothing
    of what images show, and needs no network.

    Args:
        image: images.
        scales: resolutions, each half of the one before.
    """
    found = []
    for scale in range(scales):
        image = average_pool3(image) if scale else image
        parts = [image]
        for axis in range(1, image.ndim - 1):
            edge = [(0, 0)] * image.ndim
            edge[axis] = (0, 1)
            parts.append(jnp.pad(jnp.diff(image, axis=axis), edge))
        found.append(jnp.concatenate(parts, -1))
    return tuple(found)
