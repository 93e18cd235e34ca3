"""Normalisations whose scale and bias come from elsewhere, or span the whole image.

Sources: Huang & Belongie, ICCV 2017, eq. 8 (adaptive instance normalisation); Huang et al., ECCV
2018 (MUNIT), whose layer norm spans space and channels.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.nets.layers import Dtype, Norm


class ImageLayerNorm(nn.Module):
    """Normalises each sample over space and channels; a scale and a bias a channel.

    The deviation is the unbiased one, and `epsilon` is added to it, not to the variance.

    Attributes:
        epsilon: added to the deviation.
        dtype: precision of the output; statistics are in float32.
    """

    epsilon: float = 1e-5
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: Float[Array, "b *s c"]) -> Float[Array, "b *s c"]:
        """Normalised images."""
        c = x.shape[-1]
        scale = self.param("scale", nn.initializers.uniform(1.0), (c,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (c,), jnp.float32)
        y = layer_normalised(x.astype(jnp.float32), scale, bias, self.epsilon)
        return y.astype(self.dtype or x.dtype)


def layer_normalised(
    x: Float[Array, "b *s c"],
    scale: Float[Array, "..."] | float,
    bias: Float[Array, "..."] | float,
    epsilon: float = 1e-5,
) -> Float[Array, "b *s c"]:
    """``(x - mean) / (deviation + epsilon) * scale + bias``, each sample by its own statistics.

    Args:
        x: float32 images.
        scale: of each channel, ``[c]``, or of each sample and channel, ``[b, 1, ..., c]``.
        bias: likewise.
        epsilon: added to the unbiased deviation.
    """
    axes = tuple(range(1, x.ndim))
    mean = x.mean(axes, keepdims=True)
    centred = x - mean
    variance = jnp.square(centred).sum(axes, keepdims=True) / max(x[0].size - 1, 1)
    # The root's derivative is infinite at zero: an image that is constant must not make NaN.
    deviation = jnp.sqrt(jnp.maximum(variance, 1e-20)) + epsilon
    # One multiply-add a voxel: the small arrays are combined first.
    return centred * (scale / deviation) + bias


class AdaptiveInstanceNorm(nn.Module):
    """Instance normalisation with a scale and a bias a sample and channel, given as arguments.

    Attributes:
        epsilon: added to the variance.
        dtype: precision of the output; statistics are in float32.
    """

    epsilon: float = 1e-5
    dtype: Dtype = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b *s c"],
        scale: Float[Array, "b c"],
        bias: Float[Array, "b c"],
    ) -> Float[Array, "b *s c"]:
        """Normalised images, times `scale`, plus `bias`."""
        over_space = (len(x), *[1] * (x.ndim - 2), x.shape[-1])
        plain = Norm("instance", epsilon=self.epsilon, affine=False)(x.astype(jnp.float32))
        y = plain * scale.reshape(over_space) + bias.reshape(over_space)
        return y.astype(self.dtype or x.dtype)


class ScaleBiasMLP(nn.Module):
    """A vector to the scales and biases of several adaptive normalisations.

    Attributes:
        channels: of the layers that are served, in order.
        features: widths of the rectified hidden layers.
    """

    channels: Sequence[int]
    features: Sequence[int] = (256, 256, 256)

    @nn.compact
    def __call__(
        self, x: Float[Array, "b d"]
    ) -> tuple[tuple[Float[Array, " b c"], Float[Array, " b c"]], ...]:
        """(scale, bias) a layer; scales start near one."""
        for width in self.features:
            x = jax.nn.relu(nn.Dense(width)(x))
        x = nn.Dense(2 * sum(self.channels))(x)
        pairs, start = [], 0
        for c in self.channels:
            scale, bias = x[:, start : start + c], x[:, start + c : start + 2 * c]
            pairs.append((1.0 + scale, bias))
            start += 2 * c
        return tuple(pairs)
