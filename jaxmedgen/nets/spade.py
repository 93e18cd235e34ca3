"""Generators from label maps whose every normalisation is modulated by the label map (SPADE).

Source: Park et al., "Semantic image synthesis with spatially-adaptive normalization", CVPR 2019,
fig. 4 and appendix A; widths and the single output channel as in Amirrajab et al., "Label-informed
cardiac magnetic resonance image synthesis through conditional generative adversarial networks",
CMIG 101, 2022.
"""

import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.nets.layers import Conv, Dtype
from jaxmedgen.nets.modulation import Clade, Spade, nearest_resize
from jaxmedgen.nets.spectral import SpectralConv
from jaxmedgen.ops.upsample import upsample

SLOPE = 0.2
"""Negative slope of the leaky rectifiers."""

Modulation = Literal["spade", "clade", "clade_distance"]


def xavier_normal(gain: float | int) -> jax.nn.initializers.Initializer:
    """Normal of standard deviation ``gain sqrt(2 / (fan_in + fan_out))`` (Glorot & Bengio, 2010).

    Args:
        gain: SPADE's is 0.02.
    """
    return jax.nn.initializers.variance_scaling(float(gain) ** 2, "fan_avg", "normal")


class SpadeBlock(nn.Module):
    """Residual block: twice modulated norm, leaky rectifier and convolution of spectral norm one.

    Where the channels change, the shortcut is a modulated norm and a pointwise convolution.

    Attributes:
        features: output channels; between the convolutions there are the fewer of both ends.
        modulation: ``spade``, ``clade``, or ``clade_distance`` (see `Clade.distance`).
        norm: ``batch`` or ``instance``.
        hidden: channels between label map and modulation of ``spade``.
        kernel_init: initialiser of the kernels.
        dtype: precision of the arithmetic.
    """

    features: int
    modulation: Modulation = "spade"
    norm: Literal["batch", "instance"] = "batch"
    hidden: int = 128
    kernel_init: Any = xavier_normal(0.02)
    dtype: Dtype = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b *s c"],
        label: Float[Array, "b *l k"],
        train: bool,
        update: bool,
    ) -> Float[Array, "b *s c2"]:
        """Feature maps in, feature maps out.

        Args:
            x: feature maps.
            label: one-hot label maps, of any size.
            train: whether ``batch`` norms take their statistics from this batch.
            update: whether power iterations move on.
        """
        inner = min(x.shape[-1], self.features)
        y = x
        for i, width in enumerate((inner, self.features)):
            y = jax.nn.leaky_relu(self._modulated(y, label, train, f"modulation_{i}"), SLOPE)
            y = self._conv(width, 3, True, f"conv_{i}")(y, update)
        if x.shape[-1] != self.features:
            x = self._modulated(x, label, train, "modulation_shortcut")
            x = self._conv(self.features, 1, False, "conv_shortcut")(x, update)
        return x + y

    def _modulated(self, x, label, train, name):
        if self.modulation != "spade":
            distance = self.modulation == "clade_distance"
            return Clade(self.norm, self.dtype, distance, name=name)(x, label, train)
        layer = Spade(self.hidden, self.norm, self.dtype, self.kernel_init, name=name)
        return layer(x, label, train)

    def _conv(self, width, taps, bias, name):
        return SpectralConv(
            width,
            taps,
            use_bias=bias,
            dtype=self.dtype,
            kernel_init=self.kernel_init,
            name=name,
        )


class SpadeGenerator(nn.Module):
    """Label maps, and a latent vector where there is one, to images in (-1, 1).

    A coarse map, ``2^levels`` times smaller than the image, made of the label map (shrunk, then
    convolved) or of the latent vector (a linear layer); residual blocks with a doubling by
    repetition before all but the first; rectifier, convolution, tanh. Channels halve with every
    doubling, from ``min(width 2^levels, 16 width)`` to `width`.

    ============  =====  ======  ======  =====================
    image         width  levels  blocks  coarse map
    ============  =====  ======  ======  =====================
    128^2         32     4       2       8^2, 512 channels
    256^2         32     5       1       8^2, 512 channels
    64^2 (CPU)    8      3       1       8^2, 64 channels
    ============  =====  ======  ======  =====================

    Attributes:
        shape: of the images, divisible by ``2^levels``; 2D or 3D.
        width: channels at full resolution.
        levels: doublings.
        blocks: residual blocks at the coarse map.
        channels: of the images.
        modulation: as `SpadeBlock`.
        norm: as `SpadeBlock`.
        hidden: as `SpadeBlock`.
        init_gain: of the kernels' initialiser.
        dtype: precision of the arithmetic; images are float32.
        remat: keeps no activations within a block but computes them again in the backward pass.
    """

    shape: tuple[int, ...]
    width: int = 32
    levels: int = 4
    blocks: int = 2
    channels: int = 1
    modulation: Modulation = "spade"
    norm: Literal["batch", "instance"] = "batch"
    hidden: int = 128
    init_gain: float | int = 0.02
    dtype: Dtype = None
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        label: Float[Array, "b *s k"],
        z: Float[Array, "b d"] | None = None,
        train: bool = False,
        update: bool = False,
    ) -> Float[Array, "b *s c"]:
        """Images of label maps.

        Args:
            label: one-hot label maps.
            z: latent vectors; None makes the image a function of the label map alone.
            train: whether batch norms take their statistics from this batch.
            update: whether power iterations move on.

        Raises:
            ValueError: label maps of another size, or a size that cannot be halved so often.
        """
        coarse = coarse_shape("SpadeGenerator", self.shape, self.levels)
        if label.shape[1:-1] != tuple(self.shape):
            raise ValueError(
                f"SpadeGenerator: label maps of {label.shape[1:-1]} for images of {self.shape}: "
                "pad or crop them"
            )
        label = label.astype(self.dtype or jnp.float32)
        widths = [self.width * min(2 ** (self.levels - i), 16) for i in range(self.levels + 1)]
        init = xavier_normal(self.init_gain)
        if z is None:
            small = nearest_resize(label, coarse)
            x = Conv(widths[0], 3, dtype=self.dtype, kernel_init=init, name="start")(small)
        else:
            dense = nn.Dense(
                math.prod(coarse) * widths[0], dtype=self.dtype, kernel_init=init, name="start"
            )
            x = dense(z).reshape(len(z), *coarse, widths[0])
        block = nn.remat(SpadeBlock, static_argnums=(3, 4)) if self.remat else SpadeBlock

        def residual(features, name):
            return block(
                features, self.modulation, self.norm, self.hidden, init, self.dtype, name=name
            )

        for i in range(self.blocks):
            x = residual(widths[0], f"coarse_{i}")(x, label, train, update)
        for i, width in enumerate(widths[1:]):
            x = residual(width, f"up_{i}")(upsample(x, 2), label, train, update)
        x = jax.nn.leaky_relu(x.astype(jnp.float32), SLOPE)
        return jnp.tanh(Conv(self.channels, 3, kernel_init=init, name="image")(x))


def coarse_shape(name: str, shape: tuple[int, ...], levels: int) -> tuple[int, ...]:
    """`shape` halved `levels` times.

    Raises:
        ValueError: it cannot be.
    """
    factor = 2**levels
    if any(size % factor for size in shape):
        fits = tuple(-(-size // factor) * factor for size in shape)
        raise ValueError(
            f"{name}: images of {tuple(shape)} cannot be halved {levels} times: pad them to {fits}"
        )
    return tuple(size // factor for size in shape)
