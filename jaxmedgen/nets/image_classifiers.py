"""Small classifiers of images: dense layers, plain convolutions, a densely connected network.

`feature_extractor.ResNet` is the fourth. All take ``(x, train)`` and give ``.logits``.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.nets.layers import Conv, Norm
from jaxmedgen.types import Leaf


class ClassifierOutputs(NamedTuple):
    """What a classifier gives.

    Attributes:
        logits: ``[b, classes]``.
    """

    logits: Leaf


class MLPClassifier(nn.Module):
    """Dense rectified layers on the flat image.

    Attributes:
        classes: number of classes.
        features: widths of the layers.
    """

    classes: int
    features: Sequence[int] = (512, 256)

    @nn.compact
    def __call__(self, x: Float[Array, " b *s c"], train: bool = False) -> ClassifierOutputs:
        """Logits of images."""
        del train
        x = x.reshape(x.shape[0], -1)
        for width in self.features:
            x = nn.relu(nn.Dense(width)(x))
        return ClassifierOutputs(nn.Dense(self.classes)(x))


class CNNClassifier(nn.Module):
    """Convolutions of three taps, each rectified and pooled by two, then a dense layer.

    Attributes:
        classes: number of classes.
        features: channels of the convolutions.
    """

    classes: int
    features: Sequence[int] = (8, 16, 32, 64)

    @nn.compact
    def __call__(self, x: Float[Array, " b *s c"], train: bool = False) -> ClassifierOutputs:
        """Logits of images; small ones are no longer pooled at a size of one."""
        del train
        for width in self.features:
            x = nn.relu(Conv(width, 3)(x))
            window = tuple(min(2, n) for n in x.shape[1:-1])
            x = nn.max_pool(x, window, window)
        return ClassifierOutputs(nn.Dense(self.classes)(x.reshape(x.shape[0], -1)))


class DenseNet(nn.Module):
    """DenseNet-BC: blocks whose layers see all earlier ones' outputs; a narrow layer before each.

    Huang, Liu, van der Maaten & Weinberger, "Densely connected convolutional networks", CVPR 2017,
    in the sizes of bamos/densenet.pytorch.

    Attributes:
        classes: number of classes.
        depth: layers in all; three blocks of ``(depth - 4) // 6`` pairs.
        growth: channels that a layer adds.
        reduction: share of the channels that is left between blocks.
    """

    classes: int
    depth: int = 20
    growth: int = 10
    reduction: float = 0.5

    @nn.compact
    def __call__(self, x: Float[Array, " b *s c"], train: bool = False) -> ClassifierOutputs:
        """Logits of images.

        Raises:
            ValueError: a depth without a layer in its blocks.
        """
        pairs = (self.depth - 4) // 6
        if pairs < 1:
            raise ValueError(f"DenseNet: depth={self.depth}: give at least 10")
        x = Conv(2 * self.growth, 3, use_bias=False)(x)
        for block in range(3):
            for _ in range(pairs):
                y = nn.relu(Norm("batch")(x, train))
                y = Conv(4 * self.growth, 1, use_bias=False)(y)
                y = Conv(self.growth, 3, use_bias=False)(nn.relu(Norm("batch")(y, train)))
                x = jnp.concatenate([x, y], -1)
            x = jax.nn.relu(Norm("batch")(x, train))
            if block < 2:
                x = Conv(int(self.reduction * x.shape[-1]), 1, use_bias=False)(x)
                window = tuple(min(2, n) for n in x.shape[1:-1])
                x = nn.avg_pool(x, window, window)
        return ClassifierOutputs(nn.Dense(self.classes)(x.mean(tuple(range(1, x.ndim - 1)))))
