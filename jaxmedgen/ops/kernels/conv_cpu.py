"""Convolution from XLA's fast pieces on CPU: 2D convolutions and matrix products.

XLA:CPU has no fast 3D convolution (``lax`` runs it an order of magnitude below the machine's matrix
product) and a slow weight gradient. Here a 3D convolution becomes one 2D convolution with the depth
folded into the batch: all depth taps are computed as output channels and then added at shifted
depths. It serves where the native kernels (`conv_native.py`) cannot: several devices in a process,
float64, no compiler.

Each product is written such that autodiff's transpose of it is the fast formulation as well: the
convolution carries a `jax.custom_jvp` whose tangents are linear in the input (its transpose is the
input gradient) and in the kernel (its transpose is the weight gradient). So forward mode, reverse
mode, derivatives of any order, `jax.vmap` and partitioning over a mesh all work unaided.
"""

import functools
import itertools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Pads = tuple[tuple[int, int], ...]


def conv_cpu(
    x: Float[Array, "b *s ci"],
    kernel: Float[Array, "*k ci co"],
    stride: tuple[int, ...],
    pads: Pads,
    dilation: tuple[int, ...],
) -> Float[Array, "b *s2 co"]:
    """Convolution (cross-correlation) of 2D or 3D images, at least float32 inside.

    Args:
        x: images.
        kernel: weights ``[*taps, ci, co]``.
        stride: step an axis.
        pads: zeros added (before, after) on each axis.
        dilation: distance of the kernel's taps on each axis.
    """
    dtype = jnp.result_type(x, kernel)
    inside = jnp.promote_types(dtype, jnp.float32)
    x, kernel = x.astype(inside), kernel.astype(inside)
    if any(s > 1 for s in stride) and all(d == 1 for d in dilation):
        y = _strided(x, kernel, stride, pads)
    elif any(s > 1 for s in stride):
        y = _subsample(_unit_stride(x, kernel, pads, dilation), stride)
    else:
        y = _unit_stride(x, kernel, pads, dilation)
    return y.astype(dtype)


def in_groups(
    dense: Callable[[Array, Array], Array],
    x: Float[Array, "b *s ci"],
    kernel: Float[Array, "*k ci_g co"],
    groups: int,
) -> Float[Array, "b *s2 co"]:
    """Groups joined into dense convolutions of up to 32 channels, zero between the groups.

    XLA:CPU's grouped convolutions, and their gradients above all, are slower than the zeros.

    Args:
        dense: convolution of images with a kernel, without groups.
        x: images.
        kernel: weights; `co` is ordered by group.
        groups: blocks of channels that do not see each other.
    """
    taps, (ci, co) = kernel.shape[:-2], (kernel.shape[-2], kernel.shape[-1] // groups)
    joined = max(
        m
        for m in range(1, groups + 1)
        if groups % m == 0 and (m == 1 or m * max(ci, co) <= 32 or groups // m >= 8)
    )
    kernel = kernel.reshape(*taps, ci, groups // joined, joined, co)
    apart = jnp.eye(joined, dtype=kernel.dtype)
    outputs = []
    for i in range(groups // joined):
        # [*taps, joined in, ci, joined out, co]
        block = kernel[..., None, :, i, :, :] * apart[:, None, :, None]
        block = block.reshape(*taps, joined * ci, joined * co)
        part = lax.slice_in_dim(x, i * joined * ci, (i + 1) * joined * ci, axis=-1)
        outputs.append(dense(part, block))
    return jnp.concatenate(outputs, -1)


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


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _strided(x, kernel, stride, pads):
    """Strided convolution: depth taps stacked in the channels, then a strided 2D convolution."""
    n = len(stride)
    if n == 2 or all(k <= s for k, s in zip(kernel.shape, stride)):
        return _by_blocks(x, kernel, stride, pads)
    k, s = kernel.shape[0], stride[0]
    x = _pad(x, (pads[0], *((0, 0),) * (n - 1)))
    last = (x.shape[1] - k) // s * s
    stacked = [lax.slice_in_dim(x, i, i + last + 1, s, axis=1) for i in range(k)]
    flat = jnp.moveaxis(kernel, 0, 2).reshape(*kernel.shape[1:3], -1, kernel.shape[-1])
    return _planes(jnp.concatenate(stacked, -1), flat, pads, (1, 1, 1), stride[1:])


@_strided.defjvp
def _strided_jvp(stride, pads, primals, tangents):
    blocks = functools.partial(_by_blocks, stride=stride, pads=pads)
    return _strided(*primals, stride, pads), jax.jvp(blocks, primals, tangents)[1]


def _by_blocks(x, kernel, stride, pads):
    """Strided convolution as a dense one on blocks: stride s, k taps -> stride 1, ceil(k/s) taps.

    Zeros are multiplied where s does not divide k, which costs less than XLA:CPU's strided
    gradients; a kernel no wider than its stride becomes one matrix product.
    """
    n = len(stride)
    size, taps = x.shape[1:-1], kernel.shape[:n]
    out = [(m + a + b - k) // s + 1 for m, (a, b), k, s in zip(size, pads, taps, stride)]
    coarse = [-(-k // s) for k, s in zip(taps, stride)]
    # The input just as long as the output needs it: (out + coarse - 1) blocks.
    after = [(o + c - 1) * s - m - a for o, c, s, m, (a, _) in zip(out, coarse, stride, size, pads)]
    x = _pad(x, [(a, z) for (a, _), z in zip(pads, after)])
    blocks = space_to_depth(x, stride)
    kernel = jnp.pad(
        kernel, [*((0, c * s - k) for k, c, s in zip(taps, coarse, stride)), (0, 0), (0, 0)]
    )
    split = [v for c, s in zip(coarse, stride) for v in (c, s)]
    ci, co = kernel.shape[n:]
    kernel = kernel.reshape(*split, ci, co)
    kernel = kernel.transpose(*range(0, 2 * n, 2), *range(1, 2 * n, 2), 2 * n, 2 * n + 1)
    kernel = kernel.reshape(*coarse, math.prod(stride) * ci, co)
    return _unit_stride(blocks, kernel, ((0, 0),) * n, (1,) * n)


def _subsample(y, stride):
    return lax.slice(y, (0,) * y.ndim, y.shape, (1, *stride, 1))


def _unit_stride(x, kernel, pads, dilation):
    """The rule: which formulation a static shape gets."""
    n = kernel.ndim - 2
    taps = kernel.shape[:n]
    if math.prod(taps[1:]) == 1:
        return _along_depth(_pad(x, pads), kernel, dilation)
    if n == 2:  # images are the planes of one volume
        return _dense(x[None], kernel[None], ((0, 0), *pads), (1, *dilation))[0]
    return _dense(x, kernel, pads, dilation)


def _along_depth(x, kernel, dilation):
    """Kernel [k, 1, ...]: the taps side by side in the channels, one matrix product."""
    k = kernel.shape[0]
    out = x.shape[1] - (k - 1) * dilation[0]
    taps = [lax.slice_in_dim(x, i * dilation[0], i * dilation[0] + out, axis=1) for i in range(k)]
    return _matmul(jnp.concatenate(taps, -1), kernel.reshape(-1, kernel.shape[-1]))


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _dense(x, kernel, pads, dilation):
    """3D from 2D: the planes are the batch, the depth taps output channels, added shifted."""
    k, kh, kw, ci, co = kernel.shape
    z = _planes(x, jnp.moveaxis(kernel, 0, 3).reshape(kh, kw, ci, k * co), pads, dilation)
    total = 0.0
    for i, edges in enumerate(_depth_edges(k, pads[0], dilation[0])):
        total += _pad(z[..., i * co : (i + 1) * co], (edges, (0, 0), (0, 0)))
    return total


@_dense.defjvp
def _dense_jvp(pads, dilation, primals, tangents):
    (x, kernel), (dx, dk) = primals, tangents
    y = _dense(x, kernel, pads, dilation)
    return y, _linear_in_x(dx, kernel, pads, dilation) + _linear_in_kernel(x, dk, pads, dilation)


def _linear_in_x(x, kernel, pads, dilation):
    """The same, with the depth taps stacked in the input: its transpose is `_dense`'s pattern."""
    k, ci = kernel.shape[0], kernel.shape[-2]
    shifted = [_pad(x, (edges, (0, 0), (0, 0))) for edges in _depth_edges(k, pads[0], dilation[0])]
    flat = jnp.moveaxis(kernel, 0, 2).reshape(*kernel.shape[1:3], k * ci, -1)
    return _planes(jnp.concatenate(shifted, -1), flat, pads, dilation)


def _linear_in_kernel(x, kernel, pads, dilation):
    """The same, written such that its transpose in `kernel` is the fast weight gradient.

    Chunks of planes that stay in the cache: patches [voxels, kh kw ci] times kernel
    [kh kw ci, k co], added to the output at each tap's depth. Transposed, a chunk multiplies its
    patches with the k neighbouring pieces of the gradient. Checkpointed, so that the patches are
    made again in the backward pass instead of being kept.
    """
    b, d = x.shape[:2]
    k, kh, kw, ci, co = kernel.shape
    before, step = pads[0][0], dilation[0]
    deep = d + sum(pads[0]) - (k - 1) * step
    x = _pad(x, ((0, 0), *pads[1:]))
    h, w = (size - (t - 1) * r for size, t, r in zip(x.shape[2:], (kh, kw), dilation[1:]))
    planes = _planes_a_chunk(d, h * w, kh * kw * ci)
    chunks = x.reshape(b * d // planes, planes, *x.shape[2:])
    # Input depth p and tap i make output depth p + before - i * step; the frame has room for all.
    lowest = before - (k - 1) * step
    frame = max(d + before, lowest + max(deep, 0) + (k - 1) * step) - lowest
    y = jnp.zeros((b * frame, h, w, co), x.dtype)
    window = lax.ScatterDimensionNumbers((0, 1, 2, 3), (), (0,))
    # The transposed operand lets the transpose use the patches as they lie in memory.
    flat = kernel.transpose(0, 4, 1, 2, 3).reshape(k * co, -1)

    def add_chunk(y, number, flat):
        plane = number * planes
        start = plane // d * frame + plane % d
        patches = _patches(chunks[number], (kh, kw), dilation[1:], (h, w))
        z = lax.dot_general(patches, flat, (((1,), (1,)), ((), ())))
        z = z.reshape(planes, h, w, k * co)
        for i, tap in enumerate(lax.split(z, (co,) * k, axis=3)):
            # An addition at one place whose transpose is a plain slice.
            y = lax.scatter_add(
                y,
                (start + (k - 1 - i) * step)[None],
                tap,
                window,
                indices_are_sorted=True,
                unique_indices=True,
                mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS,
            )
        return y

    add_chunk = jax.checkpoint(add_chunk, prevent_cse=False)
    y, _ = lax.scan(
        lambda y, number: (add_chunk(y, number, flat), None), y, jnp.arange(len(chunks))
    )
    return lax.slice_in_dim(y.reshape(b, frame, h, w, co), -lowest, -lowest + deep, axis=1)


def _planes_a_chunk(d, voxels, channels):
    """Planes whose patches stay in a cache of a few MB; divides the depth."""
    most = min(5.4e6 / (4 * voxels * channels), 4608 / voxels)
    return max(m for m in range(1, d + 1) if d % m == 0 and m <= max(1, most))


def _patches(x, taps, dilation, size):
    """[m, h + .., w + .., c] -> [m h w, kh kw c]."""
    pieces = [
        x[
            :,
            i * dilation[0] : i * dilation[0] + size[0],
            j * dilation[1] : j * dilation[1] + size[1],
        ]
        for i, j in itertools.product(*map(range, taps))
    ]
    return jnp.concatenate(pieces, -1).reshape(x.shape[0] * math.prod(size), -1)


def _planes(x, kernel, pads, dilation, stride=(1, 1)):
    """2D convolution of every plane of volumes."""
    y = lax.conv_general_dilated(
        x.reshape(-1, *x.shape[2:]),
        kernel,
        stride,
        pads[1:],
        rhs_dilation=dilation[1:],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y.reshape(*x.shape[:2], *y.shape[1:])


def _depth_edges(k, pads, step):
    """Zeros around (or, negative, planes cut from) the depth so that tap i meets its output."""
    span = (k - 1) * step
    return [(pads[0] - i * step, pads[1] - span + i * step) for i in range(k)]


def _pad(x, pads):
    """Zeros around the leading axes of space; negative numbers crop."""
    edges = [(0, 0, 0), *((a, b, 0) for a, b in pads), (0, 0, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), edges)


def _matmul(x, kernel):
    """``x @ kernel`` over the flattened voxels: XLA:CPU transposes more than one axis slowly."""
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], -1)
