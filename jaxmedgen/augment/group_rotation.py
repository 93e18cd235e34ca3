"""Random elements of a finite group: right-angle turns and mirrorings without interpolation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from jaxmedgen.ops.groups import Group


@dataclasses.dataclass(frozen=True)
class GroupRotation:
    """Turns every sample by an element of a group, all equally likely.

    What a group-equivariant network knows by construction, a plain one has to learn from these.

    Attributes:
        group: the group; axes that it exchanges must have equal sizes.
    """

    group: Group

    def __call__(
        self,
        keys: Key[Array, " b"],
        image: Float[Array, " b *s c"],
        label: Int[Array, " b *s"],
    ) -> tuple[Float[Array, " b *s c"], Int[Array, " b *s"]]:
        """Image and label moved alike.

        Args:
            keys: one key a sample.
            image: images.
            label: their label maps.

        Raises:
            ValueError: the group exchanges axes of different sizes.
        """
        element = jax.vmap(lambda key: jax.random.randint(key, (), 0, self.group.order))(keys)
        return self.apply(element, image, label)

    def apply(
        self,
        element: Int[Array, " b"],
        image: Float[Array, " b *s c"],
        label: Int[Array, " b *s"],
    ) -> tuple[Float[Array, " b *s c"], Int[Array, " b *s"]]:
        """``(L_g f)(x) = f(g^-1 x)`` by the given element of each sample."""
        shape = label.shape[1:]
        for i, j in np.argwhere(np.any(self.group.matrices != 0, axis=0)):
            if shape[i] != shape[j]:
                raise ValueError(
                    f"images of {shape} voxels: {self.group.name} maps axis {j} onto axis {i}; "
                    "give them equal sizes, or choose a smaller group"
                )
        size = jnp.asarray(shape)
        grid = jnp.asarray(np.indices(shape).reshape(len(shape), -1).T)
        strides = jnp.asarray(np.cumprod((1, *shape[:0:-1]))[::-1].copy())

        def move(matrix, image, label):
            # Rows times g are g^-1 x; doubled coordinates are integer about any centre.
            source = ((2 * grid - (size - 1)) @ matrix + size - 1) // 2
            index = source @ strides
            moved = image.reshape(-1, image.shape[-1])[index].reshape(image.shape)
            return moved, label.reshape(-1)[index].reshape(label.shape)

        return jax.vmap(move)(jnp.asarray(self.group.matrices)[element], image, label)
