"""Patch discriminators, at one or several scales, 2D or 3D after their input.

Each returns all its maps, the logits last: losses take ``[scale[-1] for scale in maps]``, feature
matching the others. Spectrally normalised layers move on in calls with ``update=True`` only.

Sources: Isola et al., CVPR 2017 (patches); Wang et al., CVPR 2018 (scales); Huang et al., ECCV 2018
(MUNIT); Park et al., CVPR 2019 (SPADE).
"""

from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.nets.adaptive_norm import ImageLayerNorm
from jaxmedgen.nets.layers import Dtype, Norm, he_normal
from jaxmedgen.nets.spectral import SpectralConv
from jaxmedgen.ops.upsample import average_pool3

Maps = tuple[Float[Array, " b ... _"], ...]


class PatchDiscriminator(nn.Module):
    """Convolutions of four taps, each judging its patch of the image.

    The first has no normalisation. MUNIT's: ``features=(128, 256, 512)``, ``strides=(2, 2, 2)``,
    ``norm="layer"``, ``padding=1``, ``head_kernel=1``, ``spectral_ends=True``. SPADE's:
    ``features=(64, 128, 256, 512)``, ``strides=(2, 2, 2, 1)``, ``norm="instance"``, ``padding=2``,
    ``head_kernel=4``, ``spectral_ends=False``.

    Attributes:
        features: channels of the convolutions.
        strides: of the convolutions, one each.
        norm: after all but the first; ``instance`` is without parameters, its convolutions without
            bias.
        padding: zeros at each side of the convolutions of four taps.
        head_kernel: taps of the last convolution, to the logits; 1 is not padded.
        spectral: whether convolutions have spectral norm one.
        spectral_ends: whether the first and the last one have, too.
        outputs: logits a position: one, or one a domain.
        slope: of the rectifiers for negative values.
        kernel_init: initialiser of the kernels.
        dtype: precision of the arithmetic.
    """

    features: Sequence[int] = (64, 128, 256, 512)
    strides: Sequence[int] = (2, 2, 2, 1)
    norm: Literal["instance", "layer", "none"] = "instance"
    padding: int = 2
    head_kernel: int = 4
    spectral: bool = True
    spectral_ends: bool = False
    outputs: int = 1
    slope: float = 0.2
    kernel_init: Any = he_normal
    dtype: Dtype = None

    @nn.compact
    def __call__(self, image: Float[Array, " b *s c"], update: bool = False) -> Maps:
        """Maps after each convolution, logits ``[b, *s2, outputs]`` last.

        Raises:
            ValueError: not one stride a convolution, or an image too small for them.
        """
        if len(self.features) != len(self.strides):
            raise ValueError(
                f"PatchDiscriminator: {len(self.features)} features but {len(self.strides)} "
                "strides: give one of each a convolution"
            )
        x, maps = image, []
        for level, (width, stride) in enumerate(zip(self.features, self.strides)):
            first = level == 0
            norm = "none" if first else self.norm
            ends = self.spectral_ends if first else True
            x = self._conv(x, width, 4, stride, ends, update, use_bias=norm != "instance")
            if norm == "instance":
                x = Norm("instance", affine=False, dtype=self.dtype)(x)
            elif norm == "layer":
                x = ImageLayerNorm(dtype=self.dtype)(x)
            x = jax.nn.leaky_relu(x, self.slope)
            maps.append(x)
        logits = self._conv(x, self.outputs, self.head_kernel, 1, self.spectral_ends, update)
        return (*maps, logits.astype(jnp.float32))

    def _conv(self, x, width, taps, stride, spectral, update, use_bias=True):
        pad = self.padding if taps > 1 else 0
        n = x.ndim - 2
        if any(size + 2 * pad < taps for size in x.shape[1:-1]):
            raise ValueError(
                f"PatchDiscriminator: a map of {x.shape[1:-1]} is too small for {taps} taps: "
                "give larger images or fewer features (or scales)"
            )
        x = jnp.pad(x, ((0, 0), *[(pad, pad)] * n, (0, 0)))
        return SpectralConv(
            width,
            taps,
            stride,
            padding="VALID",
            use_bias=use_bias,
            dtype=self.dtype,
            kernel_init=self.kernel_init,
            normalise=self.spectral and spectral,
        )(x, update)


class MultiScaleDiscriminator(nn.Module):
    """Copies of a patch discriminator that see the image at full, half, quarter ... resolution.

    Attributes:
        discriminator: the one that is copied; weights are not shared.
        scales: how many.
    """

    discriminator: PatchDiscriminator
    scales: int = 2

    @nn.compact
    def __call__(self, image: Float[Array, " b *s c"], update: bool = False) -> tuple[Maps, ...]:
        """Maps by scale, finest first."""
        found = []
        for scale in range(self.scales):
            if scale:
                image = average_pool3(image)
            found.append(self.discriminator.clone(name=f"scale{scale}", parent=self)(image, update))
        return tuple(found)
