"""Gradient reversal: the identity whose gradient changes sign.

Source: Ganin & Lempitsky, ICML 2015, eqs. 13 and 14.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def gradient_reversal(
    x: Float[Array, "*s"], weight: Float[Array, ""] | float | int
) -> Float[Array, "*s"]:
    """`x`, whose gradient is multiplied by ``-weight`` on the way back.

    Args:
        x: any array.
        weight: strength of the reversal; a schedule's value may be traced. Has no gradient.
    """
    return _reversed(x, jnp.asarray(weight, jnp.float32))


@jax.custom_vjp
def _reversed(x, weight):
    return x


def _forward(x, weight):
    return x, weight


def _backward(weight, cotangent):
    return (-weight * cotangent).astype(cotangent.dtype), jnp.zeros_like(weight)


_reversed.defvjp(_forward, _backward)
