"""VGG-19 up to its fifth block: feature maps for perceptual losses.

Source: Simonyan & Zisserman, ICLR 2015, configuration E; which maps are taken: Wang et al., CVPR
2018. Weights may come from a file. With He's random ones (narrow, one channel) it compares images
by random filters, which is better than nothing and needs no download (He et al., NeurIPS 2016, "A
powerful generative model using random weights for the deep image representation").
"""

import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmedgen.nets.layers import Conv
from jaxmedgen.types import Variables

_BLOCKS = (2, 2, 4, 4, 1)
_WIDTHS = (1, 2, 4, 8, 8)
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
_NUMBERS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28)
"""Numbers of the convolutions in torchvision's ``features``."""


class Vgg(nn.Module):
    """Rectified maps of the first convolution of each of the five blocks.

    Attributes:
        width: channels of the first block; 64 is VGG-19.
        natural: takes the image for a photograph: mean over channels, repeated to three, from
            [-1, 1] to ImageNet's mean and deviation. Trained weights need it.
    """

    width: int = 64
    natural: bool = False

    @nn.compact
    def __call__(self, image: Float[Array, "b *s c"]) -> tuple[Float[Array, "b *_ k"], ...]:
        """Five maps of images in [-1, 1], from full to 1/16 resolution (2D or 3D)."""
        x = image.astype(jnp.float32)
        if self.natural:
            grey = (x.mean(-1, keepdims=True) + 1) / 2
            x = (grey - jnp.asarray(_MEAN)) / jnp.asarray(_DEVIATION)
        maps = []
        for block, (count, factor) in enumerate(zip(_BLOCKS, _WIDTHS)):
            if block:
                window = (2,) * (x.ndim - 2)
                x = nn.max_pool(x, window, window)
            for i in range(count):
                init = nn.initializers.he_normal()
                name = f"conv{block + 1}_{i + 1}"
                x = jax.nn.relu(Conv(factor * self.width, 3, kernel_init=init, name=name)(x))
                if i == 0:
                    maps.append(x)
        return tuple(maps)


def read_vgg19(path: str | pathlib.Path) -> Variables:
    """Variables of ``Vgg(64, natural=True)`` from a file of torchvision's weights.

    Write the file where torchvision is installed: ``numpy.savez("vgg19.npz", **{k: v.numpy() for
    k, v in torchvision.models.vgg19(weights="IMAGENET1K_V1").state_dict().items()})``.

    Args:
        path: NumPy archive with ``features.0.weight`` ``[co, ci, 3, 3]``, ``features.0.bias`` ...

    Raises:
        ValueError: a weight is missing or of another shape.
    """
    names = [f"conv{b + 1}_{i + 1}" for b, count in enumerate(_BLOCKS) for i in range(count)]
    widths = [64 * f for count, f in zip(_BLOCKS, _WIDTHS) for _ in range(count)]
    params, before = {}, 3
    with np.load(path, allow_pickle=False) as file:
        for name, number, width in zip(names, _NUMBERS, widths):
            keys = [f"features.{number}.{part}" for part in ("weight", "bias")]
            missing = [key for key in keys if key not in file]
            if missing:
                raise ValueError(f"{path} has no {', '.join(missing)}: give VGG-19's weights")
            kernel, bias = (np.asarray(file[key], np.float32) for key in keys)
            if kernel.shape != (width, before, 3, 3) or bias.shape != (width,):
                raise ValueError(f"{path}: {keys[0]} has shape {kernel.shape}: not VGG-19's")
            params[name] = {"kernel": jnp.asarray(kernel.transpose(2, 3, 1, 0)), "bias": bias}
            before = width
    return {"params": jax.tree.map(jnp.asarray, params)}
