"""Generators that see the label map at their input only: pix2pixHD's residual one, a U-Net.

The baselines of label-conditional synthesis. Sources: Wang et al., CVPR 2018, section 3.1
(pix2pixHD's global generator); Isola et al., CVPR 2017 (U-Net).
"""

from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.nets.layers import Conv, ConvTranspose, Dtype, Norm
from jaxmedgen.nets.spade import coarse_shape, xavier_normal
from jaxmedgen.nets.unet import UNet


class Pix2PixHD(nn.Module):
    """Convolution of seven taps, strided ones, residual blocks, transposed ones, seven taps, tanh.

    A latent vector, where there is one, is repeated over space beside the label map; that needs
    batch norm, since instance norm removes all that is constant over space.

    Attributes:
        shape: of the images, divisible by ``2^levels``.
        width: channels at full resolution; they double with every halving.
        levels: halvings.
        blocks: residual blocks.
        channels: of the images.
        norm: kind of normalisation.
        init_gain: of the kernels' initialiser.
        dtype: precision of the arithmetic; images are float32.
    """

    shape: tuple[int, ...]
    width: int = 32
    levels: int = 4
    blocks: int = 9
    channels: int = 1
    norm: Literal["batch", "instance"] = "instance"
    init_gain: float | int = 0.02
    dtype: Dtype = None

    @nn.compact
    def __call__(
        self,
        label: Float[Array, "b *s k"],
        z: Float[Array, "b d"] | None = None,
        train: bool = False,
        update: bool = False,
    ) -> Float[Array, "b *s c"]:
        """Images of one-hot label maps; arguments as `SpadeGenerator` (`update` has no effect).

        Raises:
            ValueError: a size that cannot be halved so often, or a latent vector that instance
                norm would remove.
        """
        del update
        if z is not None and self.norm == "instance":
            raise ValueError("Pix2PixHD: instance norm removes the latent vector: norm='batch'")
        coarse_shape("Pix2PixHD", label.shape[1:-1], self.levels)
        init = xavier_normal(self.init_gain)
        settings = {"use_bias": False, "dtype": self.dtype}

        def normed(x):
            return Norm(self.norm, dtype=self.dtype)(x, train)

        def conv(x, width, taps, stride=1, padding="REFLECT"):
            layer = Conv(width, taps, stride, padding=padding, kernel_init=init, **settings)
            return normed(layer(x))

        x = jax.nn.relu(conv(_with_latent(label, z), self.width, 7))
        for i in range(self.levels):
            x = jax.nn.relu(conv(x, self.width * 2 ** (i + 1), 3, 2, "SAME"))
        for _ in range(self.blocks):
            y = jax.nn.relu(conv(x, x.shape[-1], 3))
            x = x + conv(y, x.shape[-1], 3)
        for i in reversed(range(self.levels)):
            x = jax.nn.relu(normed(ConvTranspose(self.width * 2**i, 3, 2, **settings)(x)))
        image = Conv(self.channels, 7, padding="REFLECT", kernel_init=init, name="image")
        return jnp.tanh(image(x.astype(jnp.float32)))


class Pix2PixUNet(nn.Module):
    """A U-Net from the label map to the image, tanh at its end; otherwise as `Pix2PixHD`.

    Attributes:
        shape: of the images, divisible by 2 to the number of levels below the first.
        features: channels of each level.
        channels: of the images.
        norm: kind of normalisation.
        dtype: precision of the arithmetic; images are float32.
    """

    shape: tuple[int, ...]
    features: Sequence[int] = (32, 64, 128, 256, 512)
    channels: int = 1
    norm: Literal["batch", "instance"] = "batch"
    dtype: Dtype = None

    @nn.compact
    def __call__(
        self,
        label: Float[Array, "b *s k"],
        z: Float[Array, "b d"] | None = None,
        train: bool = False,
        update: bool = False,
    ) -> Float[Array, "b *s c"]:
        """Images of one-hot label maps; arguments as `Pix2PixHD`."""
        del update
        net = UNet(
            dims=len(self.shape),
            features=self.features,
            classes=self.channels,
            blocks=1,
            norm=self.norm,
            dtype=self.dtype,
            name="unet",
        )
        return jnp.tanh(net(_with_latent(label, z), train))


def _with_latent(label, z):
    """Label map and latent vector as channels of one image."""
    if z is None:
        return label
    spread = jnp.broadcast_to(
        z.reshape(len(z), *[1] * (label.ndim - 2), -1), (*label.shape[:-1], z.shape[-1])
    )
    return jnp.concatenate([label, spread.astype(label.dtype)], -1)
