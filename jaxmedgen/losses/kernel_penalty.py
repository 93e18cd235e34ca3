"""L2 penalty on convolution kernels."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree


def kernel_penalty(params: PyTree[Any], strength: float | int) -> Float[Array, ""]:
    """``strength * sum(w^2)`` over parameters named ``kernel..``; biases and norms are free.

    Group convolutions count their weights once, not once for every group element.

    Args:
        params: parameters of a flax module.
        strength: the factor, Keras' ``l2(strength)``.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    kernels = [leaf for path, leaf in leaves if str(path[-1].key).startswith("kernel")]
    return strength * sum((jnp.sum(jnp.square(k)) for k in kernels), start=jnp.zeros(()))
