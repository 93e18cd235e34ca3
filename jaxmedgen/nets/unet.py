"""U-Net for 2D and 3D segmentation, in nnU-Net's arrangement.

Sources: Ronneberger et al., MICCAI 2015 (the architecture); Cicek et al., MICCAI 2016 (3D);
Isensee et al., Nature Methods 18, 2021 (strided convolutions down, transposed convolutions as wide
as their stride up, instance norm, leaky rectifiers, deep supervision). With the default settings
it is layer for layer MONAI's ``DynUNet`` (up to where a strided convolution pads an even axis:
after it here, before it there); ``benchmarks/unet_step.py`` checks that with shared weights.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmedgen.nets.layers import (
    Conv,
    Dtype,
    Norm,
    NormKind,
    Upsample,
    UpsampleMethod,
    leaky_relu,
)
from jaxmedgen.nets.moment_exchange import MomentKind, exchange_moments
from jaxmedgen.ops.collectives import all_gather
from jaxmedgen.types import Leaf

Activation = Callable[[Float[Array, "..."]], Float[Array, "..."]]


class ConvBlock(nn.Module):
    """A level's convolutions, each followed by norm and activation.

    Attributes:
        features: output channels.
        convs: how many; the first has the stride.
        stride: step of the first.
        residual: adds the input to the output before the last activation (He et al., CVPR 2016),
            through a pointwise convolution and norm where the shape changes.
        norm: kind of normalisation.
        activation: the nonlinearity.
        dropout: rate at which whole channels of the output are dropped.
        dtype: precision of the arithmetic.
    """

    features: int
    convs: int = 2
    stride: int | Sequence[int] = 1
    residual: bool = False
    norm: NormKind = "instance"
    activation: Activation = leaky_relu
    dropout: float = 0.0
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: Float[Array, "b *s c"], train: bool) -> Float[Array, "b *s2 k"]:
        """Images in, features out."""
        # A bias before a norm has no effect.
        bias, shortcut = self.norm == "none", x
        for i in range(self.convs):
            stride = self.stride if i == 0 else 1
            x = Conv(self.features, stride=stride, use_bias=bias, dtype=self.dtype)(x)
            x = Norm(self.norm, dtype=self.dtype)(x, train)
            if i == self.convs - 1 and self.residual:
                if shortcut.shape != x.shape:
                    shortcut = Conv(self.features, 1, self.stride, use_bias=bias, dtype=self.dtype)(
                        shortcut
                    )
                    shortcut = Norm(self.norm, dtype=self.dtype)(shortcut, train)
                x = x + shortcut
            x = self.activation(x)
        if self.dropout:
            space = tuple(range(1, x.ndim - 1))
            x = nn.Dropout(self.dropout, broadcast_dims=space, deterministic=not train)(x)
        return x


class FeatureMixup(NamedTuple):
    """Mixup inside the network (manifold mixup, Verma et al., ICML 2019).

    At level 0 images are mixed, at level k the features of encoder level k and, since the decoder
    reads them too, of those above.

    Attributes:
        partner: position of each sample's partner in the global batch, int ``[b]``.
        weight: of the sample's own features, ``[b]``; 1 leaves it alone.
        level: int scalar, 0 to the number of levels.
    """

    partner: Leaf
    weight: Leaf
    level: Leaf


class UNet(nn.Module):
    """U-Net: an encoder of strided convolutions, a decoder joined to it level by level.

    Parameters with ``features=(16, 32, 64, 128)``, ``blocks=2``, 1 input channel, 2 classes:

    ====================================  =========
    3D, plain                             1,401,170
    3D, residual                          1,423,394
    2D, plain                               482,354
    3D, plain, (32, 64, 128, 256, 320)   16,543,650
    ====================================  =========

    Attributes:
        dims: 2 or 3 axes of space.
        features: channels of each level, from full resolution down.
        classes: channels of the logits.
        blocks: convolutions a level, one number or one a level; ``(1, 2, 2, 2)`` makes the full
            resolution, where most of the time goes, cheap.
        residual: residual levels.
        norm: ``instance``, ``batch``, ``group`` or ``none``.
        activation: the nonlinearity.
        deep_supervision: in training, logits from every decoder level.
        dropout: rate at which whole channels are dropped after each level.
        dtype: precision of the arithmetic; parameters and logits are float32.
        remat: keeps no activations within a level but computes them again in the backward pass.
        strides: the step into each level below the first, a number or one an axis; all 2 by
            default. ``((1, 2, 2), 2, 2)`` suits thick slices.
        upsample: ``conv``, ``nearest`` or ``linear``; see `layers.Upsample`.
        moment_exchange: which moments of a level's output are exchanged between samples in
            training, see `moment_exchange.py`.
        moment_level: of the encoder, whose output that is; 0 is the first.
    """

    dims: int = 3
    features: Sequence[int] = (16, 32, 64, 128)
    classes: int = 2
    blocks: int | Sequence[int] = 2
    residual: bool = False
    norm: NormKind = "instance"
    activation: Activation = leaky_relu
    deep_supervision: bool = False
    dropout: float = 0.0
    dtype: Dtype = None
    remat: bool = False
    strides: Sequence[int | Sequence[int]] | None = None
    upsample: UpsampleMethod = "conv"
    moment_exchange: MomentKind | None = None
    moment_level: int = 0

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b *s c"],
        train: bool = False,
        *,
        partner: Int[Array, " b"] | None = None,
        mixup: FeatureMixup | None = None,
    ) -> Float[Array, "b *s k"] | tuple[Float[Array, "b *_ k"], ...]:
        """Logits of images.

        Args:
            x: images; every axis divisible by the product of its strides.
            train: batch statistics of this batch, dropout, deep supervision, and mixing.
            partner: position in the global batch of each sample's partner of `moment_exchange`;
                its own for no exchange.
            mixup: mixes features.

        Returns:
            float32 logits ``[b, *s, classes]``; with `deep_supervision` and `train` a tuple of
            them from full to coarse resolution, one a decoder level.

        Raises:
            ValueError: image size or settings do not fit.
        """
        strides, blocks = self._strides(), self._blocks()
        self._check(x.shape, strides)
        block = nn.remat(ConvBlock, static_argnums=(2,)) if self.remat else ConvBlock

        def level(features, convs, stride, name):
            return block(
                features,
                convs,
                stride,
                self.residual,
                self.norm,
                self.activation,
                self.dropout,
                self.dtype,
                name=name,
            )

        mixup = mixup if train else None
        x = _mix(mixup, 0, [x])[0]
        skips = []
        steps = ((1,) * self.dims, *strides)
        for i, (features, convs, stride) in enumerate(zip(self.features, blocks, steps)):
            x = level(features, convs, stride, f"encoder_{i}")(x, train)
            exchanges = i == self.moment_level and self.moment_exchange and partner is not None
            if exchanges and train:
                x = exchange_moments(x, partner, self.moment_exchange)
            skips = _mix(mixup, i + 1, [*skips, x])
            x = skips[-1]
        logits = []
        for i in reversed(range(len(strides))):
            features = self.features[i]
            up = Upsample(features, strides[i], self.upsample, dtype=self.dtype, name=f"up_{i}")(x)
            x = jnp.concatenate([up, skips[i]], axis=-1)
            x = level(features, blocks[i], (1,) * self.dims, f"decoder_{i}")(x, train)
            wanted = self.deep_supervision and (train or self.is_initializing())
            if i == 0 or wanted:
                head = Conv(self.classes, 1, dtype=jnp.float32, name=f"head_{i}")
                logits.append(head(x.astype(jnp.float32)))
        if self.deep_supervision and train:
            return tuple(reversed(logits))
        return logits[-1]

    def _strides(self) -> tuple[tuple[int, ...], ...]:
        strides = (2,) * (len(self.features) - 1) if self.strides is None else self.strides
        if len(strides) != len(self.features) - 1:
            raise ValueError(
                f"UNet: {len(self.features)} levels need {len(self.features) - 1} strides, got "
                f"strides={strides}"
            )
        return tuple((s,) * self.dims if isinstance(s, int) else tuple(s) for s in strides)

    def _blocks(self) -> tuple[int, ...]:
        blocks = self.blocks
        blocks = (blocks,) * len(self.features) if isinstance(blocks, int) else tuple(blocks)
        if len(blocks) != len(self.features) or min(blocks) < 1:
            raise ValueError(
                f"UNet: blocks={self.blocks} must be one number >= 1, or one for each of the "
                f"{len(self.features)} levels"
            )
        return blocks

    def _check(self, shape, strides):
        if len(shape) != self.dims + 2:
            raise ValueError(
                f"UNet: image {shape} does not have dims={self.dims} axes of space; it must be "
                "[b, *space, c]"
            )
        if not 0 <= self.moment_level < len(self.features):
            raise ValueError(
                f"UNet: moment_level={self.moment_level} of {len(self.features)} levels: count "
                "from 0 on"
            )
        total = tuple(math.prod(s[axis] for s in strides) for axis in range(self.dims))
        if any(size % t for size, t in zip(shape[1:-1], total)):
            fits = tuple(-(-size // t) * t for size, t in zip(shape[1:-1], total))
            raise ValueError(
                f"UNet: image size {shape[1:-1]} is not divisible by the total stride {total}; pad "
                f"or crop it, e.g. to {fits}"
            )


def _mix(mixup: FeatureMixup | None, level: int, features: list[Array]) -> list[Array]:
    """All features of a state mixed with the partners' if `level` is the chosen one."""
    if mixup is None:
        return features

    def mix(x):
        weight = jnp.where(mixup.level == level, mixup.weight, 1.0)
        weight = weight.reshape(-1, *(1,) * (x.ndim - 1)).astype(x.dtype)
        return weight * x + (1 - weight) * all_gather(x)[mixup.partner]

    return [mix(x) for x in features]
