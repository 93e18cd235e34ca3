"""Locally rotation-invariant (LRI) convolutions: responses that small rotated patterns share.

Four layers that answer alike to a pattern at every orientation, each voxel by itself: the maximum
over turned copies of a steerable filter (S-LRI) or of an ordinary one (G-LRI), the energy of its
harmonics a degree (SSE-LRI), their bispectrum (SSB-LRI).

Sources: Andrearczyk, Fageot, Oreiller, Montet, Depeursinge, "Exploring local rotation invariance in
3D CNNs with steerable filters", MIDL 2019, and "Local rotation invariance in 3D CNNs", Medical
Image Analysis 2020; Oreiller, Andrearczyk, Fageot, Prior, Depeursinge, "3D solid spherical
harmonics bispectrum CNNs for biomedical texture analysis", 2020.
"""

from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.nets.layers import Conv, he_normal
from jaxmedgen.ops.conv import Padding
from jaxmedgen.ops.group_conv import group_pool, lift_conv
from jaxmedgen.ops.groups import point_group
from jaxmedgen.ops.steerable import (
    bispectrum,
    power_spectrum,
    rotation_set,
    steer,
    steerable_basis,
    steerable_conv,
)

LRIKind = Literal["s", "sse", "ssb", "g", "plain"]


class LRIConv(nn.Module):
    """One LRI layer, 3D; output channels come filter by filter.

    ========  ================================================================  ==================
    `kind`    response at a voxel                                               channels a filter
    ========  ================================================================  ==================
    ``s``     ``max_R sum_{n,m} (D^n(R) C_n)[m] r_{n,m}``                       1
    ``sse``   ``sum_m r_{n,m}^2`` for every degree                              ``N + 1``
    ``ssb``   ``[(r_n1 x r_n2) C]_n . r_n`` for the degrees that couple         `bispectrum_triples`
    ``g``     ``max_R I * (R w)``, R the turns of the cube                      1
    ``plain`` ``I * w``, for comparison                                         1
    ========  ================================================================  ==================

    Attributes:
        filters: number of filters.
        kind: which layer.
        kernel_size: odd number of taps along an axis.
        degree: largest degree ``N`` of the harmonics.
        rotations: how many rotations `kind` ``s`` tries: 1, 4, 24 or 72.
        polar_separable: one radial profile for all degrees, or one a degree.
        spacing: voxel size in mm; filters are round in mm.
        padding: as `ops.conv.conv`.
    """

    filters: int
    kind: LRIKind = "ssb"
    kernel_size: int = 7
    degree: int = 1
    rotations: int = 24
    polar_separable: bool = False
    spacing: Sequence[float | int] = (1.0, 1.0, 1.0)
    padding: Padding = "SAME"

    @nn.compact
    def __call__(self, x: Float[Array, "b d h w c"]) -> Float[Array, "b d2 h2 w2 k"]:
        """Images in, invariant maps out."""
        if self.kind == "plain":
            return Conv(self.filters, self.kernel_size, padding=self.padding)(x)
        if self.kind == "g":
            shape = (*(self.kernel_size,) * 3, x.shape[-1], self.filters)
            kernel = self.param("kernel", he_normal, shape, jnp.float32)
            y = group_pool(lift_conv(x, kernel, point_group("O"), padding=self.padding), "max")
        else:
            y = self._invariants(self._responses(x))
        return y + self.param("bias", nn.initializers.zeros, (y.shape[-1],), jnp.float32)

    def _responses(self, x):
        basis = steerable_basis(self.kernel_size, self.degree, spacing=self.spacing)
        profiles = 1 if self.polar_separable else self.degree + 1
        # Responses to white noise have variance 1.
        energy = (basis**2).sum((0, 1, 2, 3)).mean() * x.shape[-1]
        init = nn.initializers.normal(float(energy**-0.5))
        shape = (x.shape[-1], self.filters, profiles, basis.shape[3])
        radial = self.param("radial", init, shape, jnp.float32)
        return steerable_conv(x, radial, basis, padding=self.padding)

    def _invariants(self, responses):
        if self.kind == "s":
            shape = (self.filters, responses.shape[-1])
            init = nn.initializers.normal(shape[1] ** -0.5)
            coefficients = self.param("coefficients", init, shape, jnp.float32)
            return steer(responses, coefficients, rotation_set(self.rotations)).max(-1)
        y = power_spectrum(responses) if self.kind == "sse" else bispectrum(responses)
        return y.reshape(*y.shape[:-2], -1)


class LRINet(nn.Module):
    """Texture classifier: one LRI layer, rectifier, global mean, linear layer.

    Attributes:
        classes: number of classes.
        layer: the layer's settings.
    """

    classes: int
    layer: LRIConv

    @nn.compact
    def __call__(self, x: Float[Array, "b d h w c"]) -> Float[Array, "b k"]:
        """Scores of every image before the softmax."""
        features = jax.nn.relu(self.layer(x)).mean((1, 2, 3))
        return nn.Dense(self.classes)(features)
