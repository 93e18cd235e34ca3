"""Distance of images in a network's feature maps (LPIPS-like).

``sum_l mean_hw |w_l (f_l(x) - f_l(y))|^2`` with f_l the maps of layer l, normalised to unit length
over channels (Zhang et al., CVPR 2018). LPIPS proper has weights w_l that were fitted to human
judgements; without them w = 1, and the number is named `lpips_uncalibrated`: it orders images seen
by the same network and cannot be compared with published LPIPS.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float


def lpips_uncalibrated(
    maps: Sequence[Float[Array, "b *_ _"]], reference_maps: Sequence[Float[Array, "b *_ _"]]
) -> Float[Array, " b"]:
    """The distance with all weights 1.

    Args:
        maps: feature maps of the images, one array a layer.
        reference_maps: those of the images compared with, same layers.

    Raises:
        ValueError: no maps, or different layers.
    """
    return lpips(maps, reference_maps, [jnp.ones(m.shape[-1], m.dtype) for m in maps])


def lpips(
    maps: Sequence[Float[Array, "b *_ _"]],
    reference_maps: Sequence[Float[Array, "b *_ _"]],
    weights: Sequence[Float[Array, " _"]],
) -> Float[Array, " b"]:
    """The distance with calibrated weights: ``sum_l mean_hw sum_c w_lc (f_lc(x) - f_lc(y))^2``.

    Args:
        maps: feature maps of the images, one array a layer.
        reference_maps: those of the images compared with.
        weights: of the channels of every layer, not negative (the squares of w_l).

    Raises:
        ValueError: no maps, or numbers of layers that differ.
    """
    if not maps or not len(maps) == len(reference_maps) == len(weights):
        raise ValueError(
            f"{len(maps)} and {len(reference_maps)} maps with {len(weights)} weights: give the "
            "same layers, at least one"
        )
    total = jnp.zeros(maps[0].shape[0], maps[0].dtype)
    for x, y, w in zip(maps, reference_maps, weights):
        squares = w * jnp.square(_unit(x) - _unit(y))
        total = total + squares.sum(-1).reshape(len(x), -1).mean(-1)
    return total


def _unit(x: Float[Array, "b *s c"]) -> Float[Array, "b *s c"]:
    """Vectors over channels of length one; the square root of 0 has no derivative."""
    return x / jnp.sqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-20)
