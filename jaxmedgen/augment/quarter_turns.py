"""Random turns by multiples of 90 degrees in the plane of the last two axes."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key


@dataclasses.dataclass(frozen=True)
class QuarterTurns:
    """Turns a share of the samples by 90, 180 or 270 degrees; only by 180 where axes differ.

    Attributes:
        probability: that a sample is turned; 0.7 in Amirrajab et al., MELBA 2023:010.
    """

    probability: float = 0.7

    def __call__(
        self,
        keys: Key[Array, " b"],
        image: Float[Array, " b *s c"],
        label: Int[Array, " b *s"],
    ) -> tuple[Float[Array, " b *s c"], Int[Array, " b *s"]]:
        """Image and label turned alike; one key a sample."""
        square = label.shape[-1] == label.shape[-2]

        def turn(key, image, label):
            chance, which = jax.random.split(key)
            turned = jax.random.bernoulli(chance, self.probability)
            steps = jax.random.randint(which, (), 1, 4) if square else 2
            number = jnp.where(turned, steps, 0)
            n = label.ndim
            angles = range(4) if square else (0, 2)
            images = jnp.stack([jnp.rot90(image, k, (n - 2, n - 1)) for k in angles])
            labels = jnp.stack([jnp.rot90(label, k, (n - 2, n - 1)) for k in angles])
            number = number if square else number // 2
            return images[number], labels[number]

        return jax.vmap(turn)(keys, image, label)
