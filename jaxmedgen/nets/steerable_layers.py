"""Layers on fields of irreducible representations of the rotations: convolution, norm, gate, pool.

A field of degree l is ``[b, *space, 2 l + 1, n]``: n channels of ``2 l + 1`` components in real
harmonics, scalars (l = 0) and vectors (l = 1) among them. Features are a tuple of fields of degrees
0, 1, ..; their channel numbers are called multiplicities.

Sources: Weiler, Geiger, Welling, Boomsma, Cohen, "3D steerable CNNs", NeurIPS 2018; Diaz, Geiger,
McKinley, "Leveraging SO(3)-steerable convolutions for pose-robust semantic segmentation in 3D
medical data", 2024 (arrangement and settings).
"""

import functools
import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmedgen.ops.conv import conv
from jaxmedgen.ops.filters import gaussian_filter
from jaxmedgen.ops.group_conv import Reduce
from jaxmedgen.ops.steerable import irrep_basis, steerable_basis
from jaxmedgen.ops.upsample import average_pool

Fields = tuple[Float[Array, " b ..."], ...]
Multiplicities = Sequence[int]


class SteerableConv(nn.Module):
    """Convolution of fields with kernels that commute with rotations.

    ``K(v) = sum_J sum_b w_{J,b} phi_b(|v|) Q_J Y_J(v / |v|)`` from every degree to every other, J
    up to `degree`, smooth bumps ``phi_b``, distances in mm; and a pointwise linear map within each
    degree, since the bumps vanish at the centre.

    Attributes:
        multiplicities: channels of the output's degrees.
        kernel_size: taps along the axis with the finest voxels; the others span as many mm, with
            at least 3 taps.
        degree: largest degree of the kernels' harmonics.
        spacing: voxel size in mm.
    """

    multiplicities: Multiplicities
    kernel_size: int = 5
    degree: int = 2
    spacing: tuple[float | int, ...] = (1.0, 1.0, 1.0)

    @nn.compact
    def __call__(self, fields: Fields) -> Fields:
        """Fields in, fields out."""
        taps = kernel_taps(self.kernel_size, tuple(self.spacing))
        columns, present = [], [(n, f) for n, f in enumerate(fields) if f.shape[-1]]
        centre = tuple(k // 2 for k in taps)
        for l_out, n_out in enumerate(self.multiplicities):
            blocks = []
            for l_in, field in present:
                basis = kernel_basis(taps, self.degree, tuple(self.spacing), l_in, l_out)
                # Every path alone maps white noise to variance 1: then paths share the variance.
                scale = (basis.shape[3] * field.shape[-1] * len(present)) ** -0.5
                shape = (basis.shape[3], field.shape[-1], n_out)
                init = nn.initializers.normal(scale)
                weights = self.param(f"kernel_{l_in}_{l_out}", init, shape, jnp.float32)
                block = jnp.einsum("xyzpab,pij->xyzaibj", jnp.asarray(basis, jnp.float32), weights)
                if l_in == l_out:
                    init = nn.initializers.lecun_normal()
                    own = self.param(f"self_{l_out}", init, (field.shape[-1], n_out), jnp.float32)
                    eye = jnp.eye(2 * l_out + 1)
                    block = block.at[centre].add(jnp.einsum("ij,ab->aibj", own, eye))
                blocks.append(block.reshape(*taps, -1, (2 * l_out + 1) * n_out))
            columns.append(jnp.concatenate(blocks, axis=3))
        x = jnp.concatenate([f.reshape(*f.shape[:-2], -1) for _, f in present], axis=-1)
        y = conv(x, jnp.concatenate(columns, axis=4))
        ends = np.cumsum([(2 * n + 1) * c for n, c in enumerate(self.multiplicities)])[:-1]
        parts = jnp.split(y, ends, axis=-1)
        return tuple(
            part.reshape(*part.shape[:-1], 2 * n + 1, c)
            for n, (part, c) in enumerate(zip(parts, self.multiplicities))
        )


class IrrepNorm(nn.Module):
    """Instance norm: scalars to mean 0 and variance 1, higher degrees to mean square norm 1.

    Attributes:
        epsilon: added to variances.
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, fields: Fields) -> Fields:
        """Normalised fields, with a learned scale a channel and a bias for scalars."""
        normed = []
        for n, x in enumerate(fields):
            space = tuple(range(1, x.ndim - 2))
            scale = self.param(f"scale_{n}", nn.initializers.ones, x.shape[-1:], jnp.float32)
            if n == 0:
                x = x - x.mean(space, keepdims=True)
            power = jnp.square(x).sum(-2, keepdims=True).mean(space, keepdims=True)
            x = x * (scale * jax.lax.rsqrt(power + self.epsilon))
            if n == 0:
                x = x + self.param("bias", nn.initializers.zeros, x.shape[-1:], jnp.float32)
            normed.append(x)
        return tuple(normed)


def gate_multiplicities(multiplicities: Multiplicities) -> tuple[int, ...]:
    """What has to enter `gate`: the fields, and one more scalar for every higher channel."""
    first, *higher = multiplicities
    return (first + sum(higher), *higher)


def gate(fields: Fields) -> Fields:
    """``relu(s)`` for the first scalars, ``sigmoid(g) x`` for the higher degrees.

    The gates g are the last scalars, one for each channel of the higher degrees.
    """
    scalars, *higher = fields
    counts = [x.shape[-1] for x in higher]
    ends = np.cumsum([scalars.shape[-1] - sum(counts), *counts])[:-1]
    first, *gates = jnp.split(scalars, ends, axis=-1)
    return (jax.nn.relu(first), *(jax.nn.sigmoid(g) * x for g, x in zip(gates, higher)))


def pool_irreps(
    fields: Fields, spacing: tuple[float | int, ...], reduce: Reduce = "mean", factor: int = 2
) -> Fields:
    """Smoothes, then takes the mean or the longest of each block of voxels.

    The Gaussian's width is ``0.5 sqrt(factor^2 - 1)`` voxels of the finest axis. Scalars are
    compared by value, higher degrees by their norms.

    Args:
        fields: features; every axis of space divisible by `factor`.
        spacing: voxel size in mm.
        reduce: ``mean`` or ``max``.
        factor: edge of a block.
    """
    sigma = 0.5 * math.sqrt(factor**2 - 1)
    widths = tuple(sigma * min(spacing) / s for s in spacing)
    return tuple(_pool(x, widths, reduce, factor) for x in fields)


def concatenate_fields(first: Fields, second: Fields) -> Fields:
    """The channels of both, degree by degree."""
    return tuple(jnp.concatenate(pair, axis=-1) for pair in zip(first, second))


@functools.cache
def kernel_taps(kernel_size: int, spacing: tuple[float | int, ...]) -> tuple[int, ...]:
    """Odd numbers of taps that span as many mm on every axis as on the finest, at least 3."""
    half = (kernel_size - 1) / 2 * min(spacing)
    return tuple(max(3, 2 * math.floor(half / s + 1e-6) + 1) for s in spacing)


@functools.cache
def kernel_basis(
    taps: tuple[int, ...], degree: int, spacing: tuple[float | int, ...], l_in: int, l_out: int
) -> Float[np.ndarray, "k1 k2 k3 p a b"]:
    """`irrep_basis` of smooth bumps, every path scaled to unit response to white noise."""
    basis = steerable_basis(taps, degree, profile="smooth", spacing=spacing)
    kernels = irrep_basis(basis, l_in, l_out)
    energy = np.square(kernels).sum((0, 1, 2, 4)).mean(-1)  # a path
    used = energy > 1e-12  # bumps between the taps' distances
    return kernels[:, :, :, used] / np.sqrt(energy[used])[:, None, None]


def _pool(x, widths, reduce, factor):
    m, n = x.shape[-2:]
    flat = gaussian_filter(x.reshape(*x.shape[:-2], -1), widths)
    if reduce == "mean":
        y = average_pool(flat, factor)
        return y.reshape(*y.shape[:-1], m, n)
    size = [s // factor for s in x.shape[1:-2]]
    split = [v for s in size for v in (s, factor)]
    blocks = flat.reshape(x.shape[0], *split, m, n)
    dims = len(size)
    order = (0, *range(1, 2 * dims, 2), *range(2, 2 * dims + 1, 2), 2 * dims + 1, 2 * dims + 2)
    blocks = blocks.transpose(order).reshape(x.shape[0], *size, factor**dims, m, n)
    length = blocks[..., 0, :] if m == 1 else jnp.square(blocks).sum(-2)
    longest = jnp.argmax(length, axis=-2)[..., None, None, :]
    return jnp.take_along_axis(blocks, longest, axis=-3)[..., 0, :, :]
