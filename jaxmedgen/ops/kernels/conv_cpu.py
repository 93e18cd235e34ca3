"""Convolution on CPU from XLA's fast pieces: 2D convolutions and matrix products.

XLA:CPU has no fast 3D convolution (``lax`` runs it an order of magnitude below the machine's matrix
product) and a slow weight gradient. Here a 3D convolution becomes one 2D convolution with the depth
folded into the batch: all depth taps are computed as output channels and then added at shifted
depths. ``benchmarks/conv.py`` measures this against ``lax`` and PyTorch.

Each product is written such that autodiff's transpose of it is the fast formulation as well: the
convolution carries a `jax.custom_jvp` whose tangents are linear in the input (its transpose is the
input gradient) and in the kernel (its transpose is the weight gradient). So forward mode, reverse
mode, derivatives of any order, `jax.vmap` and partitioning over a mesh all work unaided.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Pads = tuple[tuple[int, int], ...]


def conv_cpu(
    x: Float[Array, "b *s ci"],
    kernel: Float[Array, "*k ci_g co"],
    stride: tuple[int, ...],
    pads: Pads,
    dilation: tuple[int, ...],
    groups: int,
) -> Float[Array, "b *s2 co"]:
    """Convolution (cross-correlation) of 2D or 3D images, float32 inside.

    Args:
        x: images.
        kernel: weights; for groups, `co` is ordered by group.
        stride: step an axis.
        pads: zeros added (before, after) on each axis.
        dilation: distance of the kernel's taps on each axis.
        groups: blocks of channels that do not see each other.
    """
    dtype = jnp.result_type(x, kernel)
    x, kernel = x.astype(jnp.float32), kernel.astype(jnp.float32)
    if any(s > 1 for s in stride) and all(d == 1 for d in dilation):
        y = _strided(x, kernel, stride, pads, groups)
    elif any(s > 1 for s in stride):
        y = _subsample(_unit_stride(x, kernel, pads, dilation, groups), stride)
    else:
        y = _unit_stride(x, kernel, pads, dilation, groups)
    return y.astype(dtype)


def space_to_depth(x: Float[Array, "b *s c"], block: tuple[int, ...]) -> Float[Array, "b *s2 c2"]:
    """Moves blocks of voxels into channels, ordered (position in the block, channel)."""
    n = len(block)
    split = [v for size, f in zip(x.shape[1:-1], block) for v in (size // f, f)]
    x = x.reshape(x.shape[0], *split, x.shape[-1])
    x = x.transpose(0, *range(1, 2 * n, 2), *range(2, 2 * n + 1, 2), 2 * n + 1)
    return x.reshape(*x.shape[: n + 1], -1)


def depth_to_space(x: Float[Array, "b *s c2"], block: tuple[int, ...]) -> Float[Array, "b *s2 c"]:
    """Inverse of `space_to_depth`."""
    n = len(block)
    space = x.shape[1:-1]
    x = x.reshape(x.shape[0], *space, *block, -1)
    x = x.transpose(0, *(v for i in range(n) for v in (1 + i, 1 + n + i)), 2 * n + 1)
    return x.reshape(x.shape[0], *(s * f for s, f in zip(space, block)), -1)


def _strided(x, kernel, stride, pads, groups):
    """Strided convolution as a dense one on blocks: stride s, k taps -> stride 1, ceil(k/s) taps.

    Zeros are multiplied where s does not divide k, which costs less than XLA:CPU's strided
    gradients; a kernel as wide as its stride becomes one matrix product.
    """
    n = len(stride)
    size, taps = x.shape[1:-1], kernel.shape[:n]
    out = [(m + a + b - k) // s + 1 for m, (a, b), k, s in zip(size, pads, taps, stride)]
    coarse = [-(-k // s) for k, s in zip(taps, stride)]
    # The input just as long as the output needs it: (out + coarse - 1) blocks.
    after = [(o + c - 1) * s - m - a for o, c, s, m, (a, _) in zip(out, coarse, stride, size, pads)]
    edges = [(0, 0, 0), *((a, z, 0) for (a, _), z in zip(pads, after)), (0, 0, 0)]
    blocks = space_to_depth(lax.pad(x, jnp.zeros((), x.dtype), edges), stride)
    kernel = jnp.pad(
        kernel, [*((0, c * s - k) for k, c, s in zip(taps, coarse, stride)), (0, 0), (0, 0)]
    )
    split = [v for c, s in zip(coarse, stride) for v in (c, s)]
    ci, co = kernel.shape[n:]
    kernel = kernel.reshape(*split, ci, co)
    kernel = kernel.transpose(*range(0, 2 * n, 2), *range(1, 2 * n, 2), 2 * n, 2 * n + 1)
    kernel = kernel.reshape(*coarse, math.prod(stride) * ci, co)
    if groups > 1:  # block positions inside the group
        p = math.prod(stride)
        blocks = blocks.reshape(*blocks.shape[:-1], p, groups, ci)
        blocks = jnp.swapaxes(blocks, -3, -2).reshape(*blocks.shape[:-3], groups * p * ci)
    return _unit_stride(blocks, kernel, ((0, 0),) * n, (1,) * n, groups)


def _subsample(y, stride):
    return lax.slice(y, (0,) * y.ndim, y.shape, (1, *stride, 1))


def _unit_stride(x, kernel, pads, dilation, groups):
    """The rule: which formulation a static shape gets."""
    n = kernel.ndim - 2
    taps = kernel.shape[:n]
    if groups == 1 and math.prod(taps) == 1:
        edges = [(0, 0, 0), *((a, b, 0) for a, b in pads), (0, 0, 0)]
        return lax.pad(x, jnp.zeros((), x.dtype), edges) @ kernel.reshape(kernel.shape[n:])
    if groups == 1 and math.prod(taps[1:]) == 1:
        return _along_depth(x, kernel, pads, dilation)
    if n == 2:
        return _dense2(x, kernel, pads, dilation, groups)
    return _folded(x, kernel, pads, dilation, groups)


def _along_depth(x, kernel, pads, dilation):
    """Kernel [k, 1, ...]: the taps side by side in the channels, one matrix product."""
    edges = [(0, 0, 0), *((a, b, 0) for a, b in pads), (0, 0, 0)]
    x = lax.pad(x, jnp.zeros((), x.dtype), edges)
    k = kernel.shape[0]
    out = x.shape[1] - (k - 1) * dilation[0]
    stacked = [
        lax.slice_in_dim(x, i * dilation[0], i * dilation[0] + out, axis=1) for i in range(k)
    ]
    return jnp.concatenate(stacked, -1) @ kernel.reshape(-1, kernel.shape[-1])


def _folded(x, kernel, pads, dilation, groups):
    """3D from 2D: depth taps as output channels, added at shifted depths."""
    b, d, *hw, _ = x.shape
    k, co = kernel.shape[0], kernel.shape[-1]
    flat = _taps_to_outputs(kernel, groups)
    z = _dense2(x.reshape(b * d, *hw, -1), flat, pads[1:], dilation[1:], groups)
    z = z.reshape(b, d, *z.shape[1:3], groups, k, co // groups)
    before, after = pads[0]
    span = (k - 1) * dilation[0]
    total = 0.0
    for i in range(k):
        # y[o] = sum_i z[o - before + i * dilation, tap i]; lax.pad's negative edges crop.
        lo = before - i * dilation[0]
        hi = after - (span - i * dilation[0])
        edges = [(0, 0, 0), (lo, hi, 0), *((0, 0, 0),) * (z.ndim - 3)]
        total += lax.pad(z[..., i, :], jnp.zeros((), z.dtype), edges)
    return total.reshape(*total.shape[:-2], co)


def _taps_to_outputs(kernel, groups):
    """[k, kh, kw, ci, co] -> [kh, kw, ci, groups * k * co/groups]."""
    k, kh, kw, ci, co = kernel.shape
    kernel = kernel.reshape(k, kh, kw, ci, groups, co // groups)
    return kernel.transpose(1, 2, 3, 4, 0, 5).reshape(kh, kw, ci, k * co)


def _lax2(x, kernel, pads, dilation, groups):
    return lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        pads,
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _dense2(x, kernel, pads, dilation, groups):
    """2D convolution whose gradients are matrix products and convolutions XLA:CPU is good at."""
    return _lax2(x, kernel, pads, dilation, groups)


@_dense2.defjvp
def _dense2_jvp(pads, dilation, groups, primals, tangents):
    (x, kernel), (dx, dk) = primals, tangents
    y = _dense2(x, kernel, pads, dilation, groups)
    along_x = _dense2(dx, kernel, pads, dilation, groups)
    if groups > 1:
        return y, along_x + _lax2(x, dk, pads, dilation, groups)
    # Checkpointed: the patches are made again in the backward pass, not kept from the forward one.
    along_k = jax.checkpoint(_patch_product, static_argnums=(2, 3), prevent_cse=False)
    return y, along_x + along_k(x, dk, pads, dilation)


def _patch_product(x, kernel, pads, dilation):
    """2D convolution as patches times kernel; transposed in `kernel` it is one matrix product."""
    edges = [(0, 0, 0), *((a, b, 0) for a, b in pads), (0, 0, 0)]
    x = lax.pad(x, jnp.zeros((), x.dtype), edges)
    kh, kw, _, co = kernel.shape
    h = x.shape[1] - (kh - 1) * dilation[0]
    w = x.shape[2] - (kw - 1) * dilation[1]
    taps = [
        x[:, i * dilation[0] : i * dilation[0] + h, j * dilation[1] : j * dilation[1] + w]
        for i, j in itertools.product(range(kh), range(kw))
    ]
    return jnp.concatenate(taps, -1) @ kernel.reshape(-1, co)
