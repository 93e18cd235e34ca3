"""GenSeg's encoder: pre-activation blocks with long skips.

Source: Vorontsov et al., arXiv 1904.01636; block details after its published implementation.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.nets.layers import Dtype, Norm
from jaxmedgen.nets.spectral import SpectralConv
from jaxmedgen.ops.conv import Padding
from jaxmedgen.ops.padding import mirrored
from jaxmedgen.ops.unpool import max_pool_places
from jaxmedgen.types import Leaf


class Skip(NamedTuple):
    """What the encoder hands on from before a change of resolution.

    Attributes:
        features: the map ``[b, *s, c]``, before norm and activation.
        places: where the maxima of its blocks are, ``[b, *s / 2, c]``, with pooling; else None.
    """

    features: Leaf
    places: Leaf


class Encoder(nn.Module):
    """Images to a code at the coarsest resolution, and the maps that decoders may look at.

    A convolution of three taps, then blocks ``x -> conv(relu(norm(x))) + shortcut(x)`` that halve
    the resolution (the shortcut takes every second voxel, through a pointwise convolution where
    channels change); at the end norm and rectifier. Norms are instance norms without parameters,
    borders are mirrored.

    Attributes:
        features: channels of the first convolution and of each block.
        pooling: halves by maximum pooling, whose places are kept, not by strides.
        spectral: whether convolutions have spectral norm one.
        dtype: precision of the arithmetic.
    """

    features: Sequence[int] = (32, 64, 128, 256, 512)
    pooling: bool = False
    spectral: bool = True
    dtype: Dtype = None

    @nn.compact
    def __call__(
        self, image: Float[Array, "b *s c"], update: bool = False
    ) -> tuple[Float[Array, "b *l k"], tuple[Skip, ...]]:
        """The code and one skip a change of resolution, finest first.

        Args:
            image: any size of at least two voxels an axis at every level.
            update: moves the power iterations of the spectral norms on by one step.
        """

        def conv(x, width, taps, name, stride=1):
            padding = "VALID" if stride > 1 else border(x, taps)
            if stride > 1:  # centred on the voxels that the shortcut takes
                x = widened(x, taps // 2)
            return SpectralConv(
                width,
                taps,
                stride,
                padding=padding,
                dtype=self.dtype,
                normalise=self.spectral,
                name=name,
            )(x, update)

        def norm(x):
            return Norm("instance", affine=False, dtype=self.dtype)(x)

        every_second = (slice(None), *(slice(None, None, 2),) * (image.ndim - 2))
        x, skips = conv(image, self.features[0], 3, "first"), []
        for level, width in enumerate(self.features[1:]):
            y, places = jax.nn.relu(norm(x)), None
            if self.pooling:
                y, places = max_pool_places(y)
                y = conv(y, width, 3, f"block{level}")
            else:
                y = conv(y, width, 3, f"block{level}", stride=2)
            skips.append(Skip(x, places))
            shortcut = x[every_second]
            if width != shortcut.shape[-1]:
                shortcut = conv(shortcut, width, 1, f"shortcut{level}")
            x = y + shortcut
        return jax.nn.relu(norm(x)), tuple(skips)


def border(x: Float[Array, "b *s c"], taps: int) -> Padding:
    """Mirrored borders where the image is large enough for them, zeros elsewhere."""
    return "REFLECT" if min(x.shape[1:-1]) > taps // 2 else "SAME"


def widened(x: Float[Array, "b *s c"], width: int) -> Float[Array, "b *s2 c"]:
    """`x` with `width` more voxels on every side, mirrored (zeros where it is too small)."""
    pads = ((width, width),) * (x.ndim - 2)
    if min(x.shape[1:-1]) > width:
        return mirrored(x, pads)
    return jnp.pad(x, ((0, 0), *pads, (0, 0)))


def code_shape(shape: Sequence[int], levels: int) -> tuple[int, ...]:
    """Size of the code of images of a size, after so many halvings."""
    for _ in range(levels):
        shape = [-(-n // 2) for n in shape]
    return tuple(shape)
