"""Averaging a network over a finite group: equivariance at the price of |G| evaluations.

The usual test-time augmentation by turning and turning back; the outcome commutes with the group
whatever the network.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxmedgen.ops.groups import Group, act_on_image

Network = Callable[[Array], Array]


def group_average(
    network: Network, x: Float[Array, " b *s c"], group: Group
) -> Float[Array, " b *s k"]:
    """``mean_g L_g^-1 network(L_g x)``.

    The network is traced once for each shape that the group gives the images, and evaluated for
    one element after the other, so memory stays that of one evaluation.

    Args:
        network: images ``[b, *s, c]`` to images ``[b, *s, k]`` of the same size.
        x: images.
        group: the group.
    """
    by_shape: dict[tuple[int, ...], list[np.ndarray]] = {}
    for matrix in group.matrices:
        shape = tuple(int(n) for n in np.abs(matrix) @ np.array(x.shape[1:-1]))
        by_shape.setdefault(shape, []).append(matrix)
    total = None
    for matrices in by_shape.values():
        outputs = lax.map(network, jnp.stack([act_on_image(x, m) for m in matrices]))
        back = sum(act_on_image(y, m.T) for y, m in zip(outputs, matrices))
        total = back if total is None else total + back
    return total / group.order
