"""Normalising flow of affine coupling layers: a learned density of latent vectors.

    log p(z) = log N(u; 0, I) - sum of log scales,   u the noise that the layers make of z.

Source: Dinh, Sohl-Dickstein & Bengio, "Density estimation using Real NVP", 2017.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

_LARGEST = 3.0
"""Largest absolute logarithm of a layer's scale."""


class CouplingFlow(nn.Module):
    """Layers that in turn scale and shift one half of the dimensions, given the other.

    Attributes:
        size: dimensions, at least 2.
        layers: their number.
        hidden: widths of each layer's network.
    """

    size: int
    layers: int = 6
    hidden: Sequence[int] = (64, 64)

    def setup(self) -> None:
        """Networks; the last layer of each starts at zero, so that the flow starts as identity."""
        if self.size < 2 or self.layers < 2:
            raise ValueError(
                f"CouplingFlow: size={self.size}, layers={self.layers}: give at least 2 of each"
            )
        self.nets = [
            nn.Sequential(
                [layer for width in self.hidden for layer in (nn.Dense(width), nn.relu)]
                + [nn.Dense(2 * self.size, kernel_init=nn.initializers.zeros)]
            )
            for _ in range(self.layers)
        ]

    def __call__(self, z: Float[Array, " b d"]) -> tuple[Float[Array, " b d"], Float[Array, " b"]]:
        """Noise of latent vectors, and the logarithm of the map's Jacobian determinant."""
        total = jnp.zeros(z.shape[0], z.dtype)
        for number in range(self.layers):
            kept, log_scale, shift = self._layer(number, z)
            z = kept * z + (1 - kept) * (z - shift) * jnp.exp(-log_scale)
            total = total - ((1 - kept) * log_scale).sum(-1)
        return z, total

    def inverse(self, noise: Float[Array, " b d"]) -> Float[Array, " b d"]:
        """Latent vectors of noise."""
        z = noise
        for number in reversed(range(self.layers)):
            kept, log_scale, shift = self._layer(number, z)
            z = kept * z + (1 - kept) * (z * jnp.exp(log_scale) + shift)
        return z

    def _layer(self, number, z):
        kept = (jnp.arange(self.size) % 2 == number % 2).astype(z.dtype)
        raw, shift = jnp.split(self.nets[number](kept * z), 2, axis=-1)
        return kept, _LARGEST * jnp.tanh(raw / _LARGEST), shift
