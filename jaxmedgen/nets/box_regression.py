"""A convolutional network that gives one box an image."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.nets.layers import Conv, Norm, leaky_relu


class BoxRegressor(nn.Module):
    """Strided convolutions, a global mean and a linear layer: centre and size of one box.

    A mean over space alone could not tell where something is; the coordinates of each place go
    along with its features (CoordConv, Liu et al., NeurIPS 2018).

    Attributes:
        features: channels of each convolution of stride 2.
    """

    features: Sequence[int] = (16, 32, 64, 128)

    @nn.compact
    def __call__(self, x: Float[Array, "b *s c"]) -> Float[Array, "b d"]:
        """Boxes ``(centre, size)`` in parts of the image: 4 numbers in 2D, 6 in 3D, in (0, 1)."""
        n = x.ndim - 2
        for channels in self.features:
            axes = [(jnp.arange(size) + 0.5) / size - 0.5 for size in x.shape[1:-1]]
            grid = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), -1).astype(x.dtype)
            x = jnp.concatenate([x, jnp.broadcast_to(grid, (*x.shape[:-1], n))], -1)
            x = leaky_relu(Norm("group")(Conv(channels, stride=2, use_bias=False)(x)))
        pooled = x.mean(tuple(range(1, x.ndim - 1)))
        return jax.nn.sigmoid(nn.Dense(2 * n)(pooled))
