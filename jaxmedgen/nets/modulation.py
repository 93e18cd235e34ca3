"""Normalisation modulated by a label map: SPADE and CLADE.

Sources: Park et al., CVPR 2019, eqs. 1-3 and fig. 2 (SPADE); Tan et al., TPAMI 2021 (CLADE: one
scale and bias a class).
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.nets.layers import Conv, Dtype, Norm


class Spade(nn.Module):
    """``norm(x) (1 + gamma(S)) + beta(S)`` with two convolutions from the label map S.

    Attributes:
        hidden: channels between the label map and gamma, beta.
        norm: ``batch`` (statistics over the global batch, running means for ``train=False``) or
            ``instance``; without parameters of its own.
        dtype: precision of the arithmetic; statistics are in float32.
    """

    hidden: int = 128
    norm: Literal["batch", "instance"] = "batch"
    dtype: Dtype = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *s c"], label: Float[Array, "b *l k"], train: bool = True
    ) -> Float[Array, "b *s c"]:
        """Modulated images.

        Args:
            x: feature maps.
            label: one-hot label maps at any size; resized to that of `x`.
            train: whether ``batch`` takes its statistics from this batch.
        """
        plain = Norm(self.norm, affine=False, dtype=self.dtype, name="norm")(x, train)
        small = nearest_resize(label, x.shape[1:-1])
        hidden = jax.nn.relu(Conv(self.hidden, 3, dtype=self.dtype, name="shared")(small))
        gamma = Conv(x.shape[-1], 3, dtype=self.dtype, name="gamma")(hidden)
        beta = Conv(x.shape[-1], 3, dtype=self.dtype, name="beta")(hidden)
        return plain * (1 + gamma) + beta


class Clade(nn.Module):
    """``norm(x) gamma[class] + beta[class]``: tables in place of SPADE's convolutions.

    Attributes:
        norm: as `Spade`.
        dtype: precision of the output; statistics are in float32.
    """

    norm: Literal["batch", "instance"] = "batch"
    dtype: Dtype = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *s c"], label: Float[Array, "b *l k"], train: bool = True
    ) -> Float[Array, "b *s c"]:
        """Modulated images; arguments as `Spade`."""
        plain = Norm(self.norm, affine=False, dtype=self.dtype, name="norm")(x, train)
        small = nearest_resize(label, x.shape[1:-1]).astype(plain.dtype)
        shape = (label.shape[-1], x.shape[-1])
        gamma = self.param("gamma", nn.initializers.uniform(1.0), shape, jnp.float32)
        beta = self.param("beta", nn.initializers.zeros, shape, jnp.float32)
        # A product with the one-hot map gathers the table, without a scatter on the way back.
        return plain * (small @ gamma.astype(plain.dtype)) + small @ beta.astype(plain.dtype)


def nearest_resize(label: Float[Array, "b *l k"], shape: tuple[int, ...]) -> Float[Array, "b *s k"]:
    """Label maps at another size; the voxel at ``floor((i + 1/2) old / new)`` is taken.

    Centres of voxels are matched: at whole factors the middle of each block (the later one of two)
    is shown, not its first corner.

    Raises:
        ValueError: not one size an axis of space.
    """
    if len(shape) != label.ndim - 2:
        raise ValueError(f"nearest_resize: shape={shape} for {label.ndim - 2} axes of space")
    for axis, (new, old) in enumerate(zip(shape, label.shape[1:-1]), start=1):
        if new != old:
            rows = [(2 * i + 1) * old // (2 * new) for i in range(new)]
            label = jnp.take(label, jnp.asarray(rows), axis)
    return label
