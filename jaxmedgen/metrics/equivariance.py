"""How far a network is from commuting with a finite group."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.ops.groups import Group, act_on_image


def equivariance_errors(
    network: Callable[[Array], Array], x: Float[Array, " b *s c"], group: Group
) -> Float[Array, " g"]:
    """``|Phi(L_g x) - L_g Phi(x)|_max / |Phi(x)|_max`` for every element, 0 for the identity.

    Args:
        network: images to images; compiled by the caller, called once an element.
        x: images.
        group: the group.
    """
    plain = network(x)
    largest = jnp.abs(plain).max()
    errors = [
        jnp.abs(network(act_on_image(x, m)) - act_on_image(plain, m)).max() / largest
        for m in group.matrices
    ]
    return jnp.stack(errors)
