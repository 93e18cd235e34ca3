"""Images of any size for networks of one."""

import jax.numpy as jnp
from jaxtyping import Array, Shaped


def pad_to(
    x: Shaped[Array, "..."], shape: tuple[int, ...], value: float | int
) -> Shaped[Array, "..."]:
    """`value` after the end of every axis of space up to `shape`; the batch comes first.

    Raises:
        ValueError: images that are larger.
    """
    space = x.shape[1 : 1 + len(shape)]
    if any(n > m for n, m in zip(space, shape)):
        raise ValueError(
            f"images of {space} for networks of {shape}: train with data.shape={space}"
        )
    pads = [(0, m - n) for n, m in zip(space, shape)]
    rest = [(0, 0)] * (x.ndim - 1 - len(shape))
    return jnp.pad(x, [(0, 0), *pads, *rest], constant_values=value)
