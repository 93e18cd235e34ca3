"""Networks that read the style (contrast, brightness) of an image into a vector.

Sources: Park et al., CVPR 2019, fig. 14 (`StyleEncoder`, with the generator a VAE-GAN); Amirrajab
et al., MELBA 2023:010 (`StyleNet`, deterministic).
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.nets.layers import Dtype, Norm
from jaxmedgen.nets.spade import SLOPE, xavier_normal
from jaxmedgen.nets.spectral import SpectralConv


class StyleEncoder(nn.Module):
    """Posterior of a style vector: strided convolutions with instance norm, two linear layers.

    Attributes:
        outputs: dimensions of the vector.
        features: channels of the convolutions of three taps and stride two.
        init_gain: of the kernels' initialiser.
        dtype: precision of the arithmetic; the posterior is float32.
    """

    outputs: int = 256
    features: Sequence[int] = (32, 64, 128, 256)
    init_gain: float | int = 0.02
    dtype: Dtype = None

    @nn.compact
    def __call__(
        self, image: Float[Array, "b *s c"], train: bool = False, update: bool = False
    ) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
        """Mean and log-variance of each image's style; `update` moves power iterations on."""
        del train
        x, init = image, xavier_normal(self.init_gain)
        for width in self.features:
            x = SpectralConv(width, 3, 2, use_bias=False, dtype=self.dtype, kernel_init=init)(
                x, update
            )
            x = jax.nn.leaky_relu(Norm("instance", affine=False, dtype=self.dtype)(x), SLOPE)
        x = x.reshape(len(x), -1).astype(jnp.float32)
        mean, log_variance = (
            nn.Dense(self.outputs, kernel_init=init, name=name)(x)
            for name in ("mean", "log_variance")
        )
        return mean, log_variance


class StyleNet(nn.Module):
    """A style vector without noise, from an image at the coarse map's resolution.

    A convolution of seven taps, strided ones, residual blocks, a linear layer; batch norm and
    spectral norm throughout. Such a code of the paired image can tell the anatomy, too: judge it
    with styles and label maps of different images.

    Attributes:
        outputs: dimensions of the vector.
        width: channels of the first convolution; they double with every halving.
        levels: halvings.
        blocks: residual blocks.
        init_gain: of the kernels' initialiser.
        dtype: precision of the arithmetic; the vector is float32.
    """

    outputs: int = 512
    width: int = 32
    levels: int = 4
    blocks: int = 2
    init_gain: float | int = 0.02
    dtype: Dtype = None

    @nn.compact
    def __call__(
        self, image: Float[Array, "b *s c"], train: bool = False, update: bool = False
    ) -> Float[Array, "b d"]:
        """Style vectors; `train` decides on batch statistics, `update` on power iterations."""
        init: Any = xavier_normal(self.init_gain)

        def layer(x, width, taps, stride, padding):
            x = SpectralConv(
                width, taps, stride, padding, False, dtype=self.dtype, kernel_init=init
            )(x, update)
            return Norm("batch", dtype=self.dtype)(x, train)

        x = jax.nn.relu(layer(image, self.width, 7, 1, "REFLECT"))
        for i in range(self.levels):
            x = jax.nn.relu(layer(x, self.width * min(2 ** (i + 1), 16), 3, 2, "SAME"))
        for _ in range(self.blocks):
            y = jax.nn.relu(layer(x, x.shape[-1], 3, 1, "REFLECT"))
            x = x + layer(y, x.shape[-1], 3, 1, "REFLECT")
        x = x.reshape(len(x), -1).astype(jnp.float32)
        return nn.Dense(self.outputs, kernel_init=init, name="code")(x)
