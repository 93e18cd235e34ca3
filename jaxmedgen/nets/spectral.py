"""Layers whose weights are divided by their largest singular value.

Source: Miyato et al., ICLR 2018, algorithm 1. The vectors of the power iteration are in the
collection ``spectral`` and change only in calls with ``update=True``: make one such call of a
network a step, however often the step evaluates it.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from jaxmedgen.nets.layers import Conv, Dtype, he_normal
from jaxmedgen.ops.conv import Padding

COLLECTION = "spectral"


class SpectralConv(nn.Module):
    """`layers.Conv` of spectral norm one (of the kernel as a matrix ``[taps * ci, co]``).

    Attributes:
        features: output channels.
        kernel_size: taps, one number or one an axis.
        stride: step, likewise.
        padding: as `layers.Conv`.
        use_bias: whether a bias is added.
        dtype: precision of the arithmetic; the norm is in float32.
        kernel_init: initialiser of the kernel.
        normalise: False makes it a plain convolution.
    """

    features: int
    kernel_size: int | Sequence[int] = 3
    stride: int | Sequence[int] = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    dtype: Dtype = None
    kernel_init: Any = he_normal
    normalise: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "b *s c"], update: bool = False) -> Float[Array, "b *s2 k"]:
        """Images in, images out; `update` moves the power iteration on by one step."""
        layer = Conv(
            self.features,
            self.kernel_size,
            self.stride,
            padding=self.padding,
            use_bias=self.use_bias,
            dtype=self.dtype,
            kernel_init=self.kernel_init,
            name="conv",
        )
        return _normalised(layer, x, update) if self.normalise else layer(x)


class SpectralDense(nn.Module):
    """A linear layer of spectral norm one.

    Attributes:
        features: outputs.
        use_bias: whether a bias is added.
        dtype: precision of the arithmetic; the norm is in float32.
        normalise: False makes it a plain linear layer.
    """

    features: int
    use_bias: bool = True
    dtype: Dtype = None
    normalise: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"], update: bool = False) -> Float[Array, "*b k"]:
        """Vectors in, vectors out; `update` moves the power iteration on by one step."""
        layer = nn.Dense(self.features, use_bias=self.use_bias, dtype=self.dtype, name="dense")
        return _normalised(layer, x, update) if self.normalise else layer(x)


def _normalised(layer, x, update):
    wrapped = nn.SpectralNorm(layer, collection_name=COLLECTION, name="norm")
    return wrapped(x, update_stats=update)
