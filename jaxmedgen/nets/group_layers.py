"""Layers of group-equivariant networks on the operators of `ops/group_conv.py`.

Features are images ``[b, *space, c]`` (trivial group) or regular fields ``[b, *space, |G|, c]``,
the group's own axis before the channels. `layers.Norm` needs no equivariant sister: it takes its
statistics over all axes between batch and channels, the group's included, and has one scale and
bias a channel. 3D, and 2D with the groups of the plane.

Sources: Cohen & Welling, "Group equivariant convolutional networks", 2016; Worrall & Brostow,
"CubeNet: equivariance to 3D rotation and translation", 2018; Winkels & Cohen, "3D G-CNNs for
pulmonary nodule detection", 2018.
"""

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxmedgen.nets.layers import Dtype, UpsampleMethod, he_normal
from jaxmedgen.ops.conv import Padding, conv
from jaxmedgen.ops.group_conv import (
    Reduce,
    expand_lifting,
    expand_regular,
    group_conv,
    group_conv_transpose,
    group_pool,
    lift_conv,
    restrict,
)
from jaxmedgen.ops.groups import Group, point_group
from jaxmedgen.ops.upsample import average_pool, max_pool, upsample

TRIVIAL = point_group("trivial")


class GroupConv3D(nn.Module):
    """Convolution between the fields of two groups, as `input_group` and `output_group` say.

    trivial -> G lifts, G -> G mixes space and group, G -> a subgroup restricts first (`reduce`
    over the cosets), G -> trivial pools over the group first, trivial -> trivial is the ordinary
    convolution. Equivariant under `output_group`; from G to trivial, under G.

    Attributes:
        n_channels_in: channels of the input for every group element.
        n_channels_out: likewise of the output.
        kernel_size: taps, one number or one an axis.
        strides: step, one number, one an axis, or one an axis of ``[b, *space, c]`` with 1 for
            batch and channels.
        padding: as `ops.conv.conv`.
        input_group: group that the input is a field on.
        output_group: group that the output is a field on, a subgroup of the former or any group.
        activation: applied to the output.
        trainable: whether the weights get a gradient.
        reduce: ``mean`` or ``max`` over the group elements that are given up.
        use_bias: one bias a channel, shared by the group.
        kernel_noise: deviation of CubeNet's multiplicative noise on the expanded kernel in
            training; equivariant in distribution only.
        dtype: precision of the arithmetic.
    """

    n_channels_in: int
    n_channels_out: int
    kernel_size: int | Sequence[int] = 3
    strides: int | Sequence[int] = (1, 1, 1, 1, 1)
    padding: Padding = "SAME"
    input_group: Group = TRIVIAL
    output_group: Group = TRIVIAL
    activation: Callable[[Array], Array] | None = None
    trainable: bool = True
    reduce: Reduce = "mean"
    use_bias: bool = True
    kernel_noise: float = 0.0
    dtype: Dtype = None

    @nn.compact
    def __call__(
        self, x: Float[Array, " b *s c"], noise_key: Key[Array, ""] | None = None
    ) -> Float[Array, " b *s2 k"]:
        """Fields in, fields out.

        Args:
            x: image or field, after `input_group`.
            noise_key: key of `kernel_noise`; None for none.

        Raises:
            ValueError: shape, strides or groups do not fit.
        """
        n = min(self.input_group.dim, self.output_group.dim)  # the default groups are 3D
        field = self.input_group.order > 1
        self._check(x, n + 2 + field)
        stride = self._strides(n)
        if field and self.output_group != self.input_group:
            if self.output_group.order == 1:
                x = group_pool(x, self.reduce)
            else:
                x = restrict(x, self.input_group, self.output_group, self.reduce)
            field = self.output_group.order > 1
        group = self.output_group
        taps = (self.kernel_size,) * n if isinstance(self.kernel_size, int) else self.kernel_size
        shape = (*taps, *((group.order,) if field else ()), x.shape[-1], self.n_channels_out)
        weights = self.param("kernel", he_normal, shape, jnp.float32)
        bias = None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.n_channels_out,), jnp.float32)
        if not self.trainable:
            weights, bias = jax.lax.stop_gradient((weights, bias))
        dtype = self.dtype or x.dtype
        x, weights = x.astype(dtype), weights.astype(dtype)
        how = {"stride": stride, "padding": self.padding}
        if noise_key is not None and self.kernel_noise > 0:
            y = self._noisy(x, weights, noise_key, field, how)
        elif group.order == 1:
            y = conv(x, weights, **how)
        else:
            y = (group_conv if field else lift_conv)(x, weights, group, **how)
        if bias is not None:
            y = y + bias.astype(dtype)
        return y if self.activation is None else self.activation(y)

    def _noisy(self, x, weights, key, field, how):
        group = self.output_group
        if group.order > 1:
            weights = (expand_regular if field else expand_lifting)(weights, group)
        noise = 1 + self.kernel_noise * jax.random.normal(key, weights.shape, weights.dtype)
        flat = x.reshape(*x.shape[:-2], -1) if field else x
        y = conv(flat, weights * noise, **how)
        return y.reshape(*y.shape[:-1], group.order, -1) if group.order > 1 else y

    def _strides(self, n):
        if isinstance(self.strides, int):
            return (self.strides,) * n
        strides = tuple(self.strides)
        if len(strides) == n:
            return strides
        # The default has five numbers, whatever the group's dimension.
        if len(strides) in (n + 2, 5) and strides[0] == strides[-1] == 1:
            return strides[1 : n + 1]
        raise ValueError(
            f"strides {strides} must be one number, {n}, or {n + 2} with 1 first and last"
        )

    def _check(self, x, axes):
        if x.ndim != axes or x.shape[-1] != self.n_channels_in:
            kind = "images [b, *space, c]" if self.input_group.order == 1 else "fields"
            raise ValueError(
                f"input {x.shape} must be {kind} of {axes} axes and n_channels_in="
                f"{self.n_channels_in} channels for the group {self.input_group.name}"
            )


class GroupConvTranspose3D(nn.Module):
    """Up-sampling convolution as wide as its stride; exactly equivariant for every size.

    Attributes:
        features: output channels for every group element.
        group: the group that the input is a field on.
        factor: by which the axes grow, one number or one an axis.
        use_bias: one bias a channel.
        dtype: precision of the arithmetic.
    """

    features: int
    group: Group
    factor: int | Sequence[int] = 2
    use_bias: bool = True
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: Float[Array, " b *s c"]) -> Float[Array, " b *s2 k"]:
        """Fields in, larger fields out; images if the group is trivial."""
        trivial = self.group.order == 1
        x = x[..., None, :] if trivial else x
        n = x.ndim - 3
        factor = (self.factor,) * n if isinstance(self.factor, int) else tuple(self.factor)
        # Of the taps an output voxel sees one: only group and channels are summed over.
        init = jax.nn.initializers.variance_scaling(
            2.0, "fan_in", "normal", in_axis=(-3, -2), out_axis=-1, batch_axis=tuple(range(n))
        )
        shape = (*factor, self.group.order, x.shape[-1], self.features)
        weights = self.param("kernel", init, shape, jnp.float32)
        dtype = self.dtype or x.dtype
        y = group_conv_transpose(x.astype(dtype), weights.astype(dtype), self.group)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            y = y + bias.astype(dtype)
        return y[..., 0, :] if trivial else y


def pool_field(
    x: Float[Array, " b *s c"], factor: int, group: Group, reduce: Reduce = "max"
) -> Float[Array, " b *s2 c"]:
    """Maximum or mean over blocks of space, each group element and channel alone.

    Exactly equivariant, since sizes that the blocks do not tile are refused.

    Args:
        x: field on `group`, image if it is trivial.
        factor: edge of a block in voxels.
        group: the group.
        reduce: ``max`` or ``mean``.

    Raises:
        ValueError: an axis is not divisible by `factor`.
    """
    return (max_pool if reduce == "max" else average_pool)(x, _factors(factor, group))


def upsample_field(
    x: Float[Array, " b *s c"], factor: int, group: Group, method: UpsampleMethod = "nearest"
) -> Float[Array, " b *s2 c"]:
    """Enlarges space by a whole factor, ``nearest`` or ``linear`` about voxel centres.

    Args:
        x: field on `group`, image if it is trivial.
        factor: by which the axes grow.
        group: the group.
        method: interpolation; both commute with the group.
    """
    return upsample(x, _factors(factor, group), method)


def channel_dropout(
    x: Float[Array, " b *s c"], rate: float, keys: Key[Array, " b"]
) -> Float[Array, " b *s c"]:
    """Drops whole channels, the same ones at all positions and group elements of a sample.

    So every single draw is equivariant, not only their distribution; and each sample's draw comes
    from its own key.

    Args:
        x: images or fields.
        rate: share of channels dropped; the others are divided by ``1 - rate``.
        keys: one key a sample.

    Raises:
        ValueError: `rate` is not in ``[0, 1)``.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout rate {rate} must be in [0, 1)")
    draw = functools.partial(jax.random.bernoulli, p=1 - rate, shape=x.shape[-1:])
    kept = jax.vmap(draw)(keys) / (1 - rate)
    return x * kept.reshape(-1, *(1,) * (x.ndim - 2), x.shape[-1]).astype(x.dtype)


def _factors(factor, group):
    return (factor,) * group.dim + (1,) * (group.order > 1)
