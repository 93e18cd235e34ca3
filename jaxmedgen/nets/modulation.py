"""Normalisation modulated by a label map: SPADE and CLADE.

Sources: Park et al., CVPR 2019, eqs. 1-3 and fig. 2 (SPADE); Tan et al., TPAMI 2021 (CLADE: one
scale and bias a class, which may vary with the place within the class' region).
"""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.nets.layers import Conv, Dtype, Norm, he_normal


class Spade(nn.Module):
    """``norm(x) (1 + gamma(S)) + beta(S)`` with two convolutions from the label map S.

    Attributes:
        hidden: channels between the label map and gamma, beta.
        norm: ``batch`` (statistics over the global batch, running means for ``train=False``) or
            ``instance``; without parameters of its own.
        dtype: precision of the arithmetic; statistics are in float32.
        kernel_init: initialiser of the kernels.
    """

    hidden: int = 128
    norm: Literal["batch", "instance"] = "batch"
    dtype: Dtype = None
    kernel_init: Any = he_normal

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
        settings = {"dtype": self.dtype, "kernel_init": self.kernel_init}
        hidden = jax.nn.relu(Conv(self.hidden, 3, name="shared", **settings)(small))
        gamma = Conv(x.shape[-1], 3, name="gamma", **settings)(hidden)
        beta = Conv(x.shape[-1], 3, name="beta", **settings)(hidden)
        return plain * (1 + gamma) + beta


class Clade(nn.Module):
    """``norm(x) gamma[class] + beta[class]``: tables in place of SPADE's convolutions.

    Attributes:
        norm: as `Spade`.
        dtype: precision of the output; statistics are in float32.
        distance: whether gamma and beta are multiplied by 1 plus a linear function of the place
            within the class' region (`class_offsets`), zero at first.
    """

    norm: Literal["batch", "instance"] = "batch"
    dtype: Dtype = None
    distance: bool = False

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
        scale, shift = small @ gamma.astype(plain.dtype), small @ beta.astype(plain.dtype)
        if self.distance:
            place = class_offsets(small)
            scale, shift = (
                x * (1 + Conv(1, 1, kernel_init=nn.initializers.zeros, name=name)(place))
                for x, name in ((scale, "distance_gamma"), (shift, "distance_beta"))
            )
        return plain * scale + shift


def class_offsets(label: Float[Array, "b *s k"]) -> Float[Array, "b *s n"]:
    """Where each voxel lies in the region of its class: offset from its centre, in [-1, 1].

    Offsets are divided by the largest one of the class along the axis.

    Args:
        label: one-hot label maps; the result has their type.
    """
    # In float32: bfloat16 knows no whole numbers above 256, and a centre is a sum over all voxels.
    dtype, label = label.dtype, label.astype(jnp.float32)
    axes = tuple(range(1, label.ndim - 1))
    share = label / jnp.maximum(label.sum(axes, keepdims=True), 1e-6)
    found = []
    for axis in axes:
        place = jnp.arange(label.shape[axis], dtype=jnp.float32)
        place = place.reshape([-1 if a == axis else 1 for a in range(label.ndim)])
        offset = label * (place - (share * place).sum(axes, keepdims=True))
        largest = jnp.abs(offset).max(axes, keepdims=True)
        found.append((offset / jnp.maximum(largest, 1e-6)).sum(-1))
    return jnp.stack(found, -1).astype(dtype)


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
