"""U-Net that is equivariant under a finite group of rotations and reflections.

The network of the talk "Augmentation of brain MRIs using disentanglement and neural network
expressivity" (Middleton, Pai, Nielsen, Sommer, University of Copenhagen): a U-Net of group
convolutions, pooled over the group before the head, so that ``net(L_g x) = L_g net(x)`` for every
element g. With the trivial group it is the talk's baseline, layer for layer.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxmedgen.nets.group_blocks import GroupBlock
from jaxmedgen.nets.group_layers import (
    TRIVIAL,
    GroupConv3D,
    GroupConvTranspose3D,
    channel_dropout,
    pool_field,
    upsample_field,
)
from jaxmedgen.nets.layers import Conv, Dtype, Norm, NormKind, UpsampleMethod
from jaxmedgen.ops.group_conv import Reduce, group_pool
from jaxmedgen.ops.groups import Group, check_spacing

OutAct = Literal["softmax", "linear"]
_PADDINGS = ("same", "reflect", "circular", "edge")


class GroupUNet3D(nn.Module):
    """Group U-Net with the constructor of the talk's slide.

    Level i has ``round(filters sqrt(c_factor) 2^i)`` channels for every group element; a block is
    twice group convolution, norm, leaky rectifier. Trainable parameters with 4 input channels, 4
    classes and depth 4:

    ==========================================  ====================================
    trivial, 12 filters (the baseline)          3,644,368
    C4, 3 / 6 / 12 filters                      911,095 / 3,641,770 / 14,561,872
    D4, 4 filters                               3,236,552
    T, 3; O, 2; Oh, 2 filters                   2,730,679; 2,426,982; 4,853,094
    O, 1 filter                                 606,965
    ==========================================  ====================================

    Attributes:
        group: from `ops.groups.point_group`; ``p1`` to ``p4m`` for images.
        num_classes: channels of the output.
        n_channels_in: image channels.
        patch_size: size of training patches; every axis a multiple of ``max_pool^depth``, or
            pooling would not be equivariant.
        c_factor: capacity: parameters grow about in proportion to it.
        out_act: ``softmax``, or ``linear`` for logits.
        kernel_reg: factor of ``sum(w^2)`` in the loss, on the weights before their expansion.
        filters: channels of the first level for every group element.
        depth: number of poolings.
        LReLU_alpha: negative slope of the rectifiers.
        kernel_size: taps of the convolutions.
        max_pool: edge and stride of the pooling blocks.
        dropout: rate at which channels are dropped after each encoder level and the bottleneck.
        padding: ``same``, ``reflect``, ``circular`` or ``edge``.
        rotation_params: ``(on, degrees = 15)``: random rotations of the training images about every
            axis. This and the next two are carried out by the training system, before the network.
        blur_params: ``(on, sigma_min = 0, sigma_max = 1)`` in voxels: random Gaussian blur.
        transform_params: ``(on, kind = "affine", strength = 1)`` with kind ``affine``, ``elastic``
            or ``diffeo``: random deformation.
        cut_off: share of a class in its neighbourhood from which on labels are not smoothed.
        trainable: whether the parameters get a gradient.
        label_smoothing: whether training labels are smoothed in space.
        label_smoothing_neighbours: edge of the neighbourhood in voxels.
        val_samples: passes with dropout that a prediction averages; 1 is one pass without.
        norm: ``instance``, for small batches; ``batch``; ``group``; ``none``.
        reduce: ``mean`` or ``max`` over the group before the head.
        head_features: channels of a group convolution of one tap ahead of that reduction, with a
            leaky rectifier; 0 for none, as in the talk. Without it the head sees `filters` numbers
            a voxel, one or two in small networks, which hardly tell three classes apart.
        upsample: ``nearest`` or ``linear``, or ``conv`` for a transposed group convolution.
        spacing: voxel size in mm, to refuse groups that do not fit it; None trusts the caller.
        remat: computes a level's activations again in the backward pass.
        dtype: precision of the arithmetic; parameters and output are float32.
    """

    group: Group
    num_classes: int
    n_channels_in: int
    patch_size: Sequence[int] = (96, 96, 96)
    c_factor: float | int = 1.0
    out_act: OutAct = "softmax"
    kernel_reg: float = 1e-6
    filters: int = 12
    depth: int = 4
    LReLU_alpha: float = 0.01
    kernel_size: int = 3
    max_pool: int = 2
    dropout: float = 0.2
    padding: str = "same"
    rotation_params: tuple[Any, ...] = (False,)
    blur_params: tuple[Any, ...] = (False,)
    transform_params: tuple[Any, ...] = (False,)
    cut_off: float = 0.9
    trainable: bool = True
    label_smoothing: bool = False
    label_smoothing_neighbours: int = 5
    val_samples: int = 1
    norm: NormKind = "instance"
    reduce: Reduce = "mean"
    head_features: int = 0
    upsample: UpsampleMethod = "nearest"
    spacing: tuple[float | int, ...] | None = None
    remat: bool = False
    dtype: Dtype = None

    def __post_init__(self) -> None:
        if self.spacing is not None:
            check_spacing(self.group, self.spacing)
        if self.padding not in _PADDINGS:
            raise ValueError(
                f"padding {self.padding!r} must be one of {', '.join(_PADDINGS)}: skip connections "
                "need outputs as large as inputs"
            )
        if self.out_act not in ("softmax", "linear"):
            raise ValueError(f"out_act {self.out_act!r} must be 'softmax' or 'linear'")
        if self.val_samples < 1:
            raise ValueError(f"val_samples {self.val_samples} must be at least 1")
        self._check_size(self.patch_size, "patch_size")
        super().__post_init__()

    @property
    def classes(self) -> int:
        """Channels of the output, as other networks call them."""
        return self.num_classes

    @property
    def size_multiple(self) -> int:
        """Every axis of an input must be a multiple of this."""
        return self.max_pool**self.depth

    def features(self, level: int) -> int:
        """Channels of a level for every group element."""
        return max(1, round(self.filters * math.sqrt(self.c_factor) * 2**level))

    def __call__(
        self, x: Float[Array, " b *s c"], train: bool = False, keys: Key[Array, " b"] | None = None
    ) -> Float[Array, " b *s k"]:
        """Class probabilities (or what `out_act` says); arguments as `logits`."""
        y = self.logits(x, train, keys)
        return jax.nn.softmax(y, axis=-1) if self.out_act == "softmax" else y

    @nn.compact
    def logits(
        self, x: Float[Array, " b *s c"], train: bool = False, keys: Key[Array, " b"] | None = None
    ) -> Float[Array, " b *s k"]:
        """Scores before the softmax.

        Args:
            x: images; every axis a multiple of ``max_pool^depth``.
            train: whether batch norm takes this batch's statistics.
            keys: one key a sample for dropout; None drops nothing.

        Returns:
            Scores ``[b, *s, num_classes]`` in float32, or wider; they turn and mirror as the image
            does.

        Raises:
            ValueError: image size or channels do not fit.
        """
        self._check_size(x.shape[1:-1], "image size")
        if x.shape[-1] != self.n_channels_in:
            raise ValueError(
                f"images have {x.shape[-1]} channel(s), the network n_channels_in="
                f"{self.n_channels_in}: give as many, or build it with n_channels_in={x.shape[-1]}"
            )
        if self.trainable:
            return self._network(x, train, keys)
        frozen = nn.map_variables(
            type(self)._network,
            "params",
            jax.lax.stop_gradient,
            init=self.is_initializing(),
            mutable=self.is_initializing(),
        )
        return frozen(self, x, train, keys)

    def _network(self, x, train, keys):
        def drop(x, level):
            if keys is None or not self.dropout:
                return x
            own = jax.vmap(jax.random.fold_in, (0, None))(keys, level)
            return channel_dropout(x, self.dropout, own)

        skips = []
        for i in range(self.depth + 1):
            if i:
                x = pool_field(x, self.max_pool, self.group)
            x = self._block(x, i, train, TRIVIAL if i == 0 else self.group, f"encoder_{i}")
            x = drop(x, i)
            skips.append(x)
        for i in reversed(range(self.depth)):
            x = self._up(x, i, train)
            x = jnp.concatenate([x, skips[i]], axis=-1)
            x = self._block(x, i, train, self.group, f"decoder_{i}")
        if self.head_features:
            x = GroupConv3D(
                x.shape[-1],
                self.head_features,
                1,
                input_group=self.group,
                output_group=self.group,
                activation=functools.partial(jax.nn.leaky_relu, negative_slope=self.LReLU_alpha),
                dtype=self.dtype,
                name="widening",
            )(x)
        if self.group.order > 1:
            x = group_pool(x, self.reduce)
        wide = jnp.promote_types(x.dtype, jnp.float32)
        return Conv(self.num_classes, 1, dtype=wide, name="head")(x.astype(wide))

    def _block(self, x, level, train, input_group, name, convs=2):
        block = nn.remat(GroupBlock, static_argnums=(2,)) if self.remat else GroupBlock
        return block(
            self.features(level),
            self.group,
            input_group,
            convs,
            self.kernel_size,
            self.LReLU_alpha,
            self.padding,
            self.norm,
            self.dtype,
            name=name,
        )(x, train)

    def _up(self, x, level, train):
        name = f"up_{level}"
        if self.upsample != "conv":
            x = upsample_field(x, self.max_pool, self.group, self.upsample)
            return self._block(x, level, train, self.group, name, convs=1)
        x = GroupConvTranspose3D(
            self.features(level), self.group, self.max_pool, dtype=self.dtype, name=name
        )(x)
        x = Norm(self.norm, dtype=self.dtype, name=f"{name}_norm")(x, train)
        return jax.nn.leaky_relu(x, self.LReLU_alpha)

    def _check_size(self, size, what):
        if len(size) != self.group.dim:
            raise ValueError(
                f"{what} {tuple(size)} must be {self.group.dim} numbers for the group "
                f"{self.group.name}"
            )
        if any(n % self.size_multiple for n in size):
            raise ValueError(
                f"{what} {tuple(size)} must be multiples of {self.size_multiple} (max_pool^depth): "
                "pooling is not equivariant otherwise; pad the image"
            )
