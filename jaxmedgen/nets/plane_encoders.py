"""Embeddings of several planes of one subject, some of which may be missing.

A missing plane is either a zeroed image, which a network has to know from training, or a learned
null vector in place of its embedding.
"""

from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxmedgen.nets.layers import Dtype
from jaxmedgen.nets.volume_coding import NormChoice, StridedEncoder

Missing = Literal["null", "zero"]


class PlaneEncoders(nn.Module):
    """One encoder a view, weights not shared.

    Attributes:
        views: numbers of the views that are encoded; others do not exist for this network.
        features: channels of the convolutions.
        embedding: length of an embedding.
        missing: what stands for a missing plane: ``null`` vector or ``zero`` image.
        norm: as `StridedEncoder`.
        dtype: precision of the convolutions.
    """

    views: Sequence[int]
    features: Sequence[int] = (16, 32, 64, 128, 128)
    embedding: int = 128
    missing: Missing = "null"
    norm: NormChoice = "batch"
    dtype: Dtype = None

    @nn.compact
    def __call__(
        self, planes: Float[Array, " b *s v"], available: Float[Array, " b v"], train: bool
    ) -> tuple[Float[Array, " b e"], ...]:
        """Embeddings in the order of `views`.

        Args:
            planes: a channel a view; what a missing one holds does not matter.
            available: 1 where there is a plane, 0 where it is missing.
            train: batch statistics of the batch.
        """
        lift = (slice(None), *(None,) * (planes.ndim - 2), slice(None))
        # Not a product: a missing plane may hold anything, NaN too.
        planes = jnp.where(available[lift] > 0, planes, 0.0)
        found = []
        for view in self.views:
            encoder = StridedEncoder(
                self.features, self.embedding, self.norm, self.dtype, name=f"view{view}"
            )
            code = encoder(planes[..., view : view + 1], train)
            if self.missing == "null":
                null = self.param(f"null{view}", nn.initializers.zeros, (self.embedding,))
                code = jnp.where(available[:, view, None] > 0, code, null)
            found.append(code)
        return tuple(found)


def draw_views(key: PRNGKeyArray, order: Sequence[int], kind: str) -> Float[Array, " v"]:
    """Which views one sample keeps in training.

    Args:
        key: of the sample.
        order: the views by how often they are acquired.
        kind: ``nested``: the first n of the order, n uniform from 1 on; ``any``: any set of them
            but the empty one; ``none``: all.

    Raises:
        ValueError: another kind.
    """
    count = len(order)
    if kind == "none":
        return jnp.ones(count)
    if kind == "nested":
        rank = jnp.zeros(count, jnp.int32).at[jnp.asarray(order)].set(jnp.arange(count))
        return (rank <= jax.random.randint(key, (), 0, count)).astype(jnp.float32)
    if kind == "any":
        code = jax.random.randint(key, (), 1, 2**count)
        return ((code >> jnp.arange(count)) & 1).astype(jnp.float32)
    raise ValueError(f"view dropout '{kind}': choose nested, any or none")
