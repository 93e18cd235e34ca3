"""3D convolution with few channels for TPU, on full lanes and a full matrix unit.

A TPU array whose last axis has 8 channels fills 8 of 128 lanes. So width and channels share the
lanes here, ``[b, d, h, w * c]``, and the taps along the width become part of a matrix: 128 lanes of
output are a product of the lanes around them with a banded (block Toeplitz) matrix, one matrix for
each pair of depth and height tap. Most of the band is zeros, which the matrix unit multiplies
faster than it could work on 8 channels: the useful share of 256 x 128 products is ``kw c / 256``,
9 % at 8 channels and 38 % at 32, against 0.4 % and 6 % with the channels alone on the lanes.

A program computes some planes of depth; their blocks of input overlap by the halo.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from jaxmedgen.ops.kernels.pallas_support import next_power_of_two

_LANES = 128
_BLOCK_BYTES = 4 << 20  # of input to a program


def conv3d_tpu(x, kernel, bias, scale, shift, *, slope, statistics, precision, interpret):
    """Output ``[b, d, h, w, co]`` and, with `statistics`, moments of every row of heights."""
    ci, co = x.shape[-1], kernel.shape[-1]
    wide_ci, wide_co = (max(8, next_power_of_two(c)) for c in (ci, co))
    kernel = jnp.pad(kernel, ((0, 0),) * 3 + ((0, wide_ci - ci), (0, wide_co - co)))
    b, d, h, w, _ = x.shape
    kd, kh, kw = kernel.shape[:3]
    tile = max(1, _LANES // min(wide_ci, wide_co))  # positions along the width in one product
    tiles = pl.cdiv(w, tile)
    reach = pl.cdiv((tile + kw - 1) * wide_ci, _LANES) * _LANES  # lanes of input of one product
    lanes_in = (tiles - 1) * tile * wide_ci + reach
    lanes_out = tiles * tile * wide_co
    low = kw // 2
    pads = ((0, 0), (kd // 2,) * 2, (kh // 2,) * 2, (low, lanes_in // wide_ci - w - low))
    padded = jnp.pad(x, (*pads, (0, wide_ci - ci))).reshape(b, d + kd - 1, h + kh - 1, lanes_in)
    band = banded(kernel, tile, reach)
    planes = _planes(d, kd, (h + kh - 1) * lanes_in * x.dtype.itemsize)

    block = (1, planes + kd - 1, h + kh - 1, lanes_in)
    inputs = [padded, band]
    in_specs = [
        pl.BlockSpec(tuple(pl.Element(s) for s in block), lambda n, i: (n, i * planes, 0, 0)),
        pl.BlockSpec(band.shape, lambda n, i: (0, 0, 0)),
    ]
    if bias is not None:
        row = jnp.tile(jnp.pad(bias.astype(jnp.float32), (0, wide_co - co)), tile)
        inputs.append(row[None])
        in_specs.append(pl.BlockSpec((1, row.size), lambda n, i: (0, 0)))
    scratch = []
    if scale is not None:
        for value in (scale, shift):
            value = jnp.pad(value.astype(jnp.float32), ((0, 0), (0, wide_ci - ci)))
            inputs.append(jnp.tile(value, (1, lanes_in // wide_ci))[:, None])
            in_specs.append(pl.BlockSpec((1, 1, lanes_in), lambda n, i: (n, 0, 0)))
        scratch = [pltpu.VMEM(block[1:], x.dtype)]

    def output(rows, dtype):
        spec = pl.BlockSpec((1, planes, rows, lanes_out), lambda n, i: (n, i, 0, 0))
        return jax.ShapeDtypeStruct((b, d, rows, lanes_out), dtype), spec

    outputs = [output(h, x.dtype)] + [output(1, jnp.float32)] * (2 if statistics else 0)
    body = functools.partial(
        _kernel,
        taps=(kd, kh),
        lanes=(tile * wide_ci, tile * wide_co, reach),
        tiles=tiles,
        inside=(d, h, w),
        low=(kd // 2, kh // 2, low),
        wide_ci=wide_ci,
        with_bias=bias is not None,
        with_prologue=scale is not None,
        statistics=statistics,
        slope=slope,
        precision=precision,
    )
    y, *moments = pl.pallas_call(
        body,
        grid=(b, d // planes),
        in_specs=in_specs,
        out_specs=[spec for _, spec in outputs],
        out_shape=[shape for shape, _ in outputs],
        scratch_shapes=scratch,
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel"), vmem_limit_bytes=64 << 20
        ),
        interpret=interpret,
        name="conv3d",
    )(*inputs)
    y = y.reshape(b, d, h, tiles * tile, wide_co)[..., :w, :co]
    if not statistics:
        return y, None
    mean, squares = (
        m.reshape(b, d, tiles * tile, wide_co)[:, :, :w, :co].reshape(b, d * w, co) for m in moments
    )
    return y, (jnp.full((d * w, 1), h, jnp.float32), mean, squares)


def _kernel(
    x_ref,
    band_ref,
    *refs,
    taps,
    lanes,
    tiles,
    inside,
    low,
    wide_ci,
    with_bias,
    with_prologue,
    statistics,
    slope,
    precision,
):
    refs = list(refs)
    bias_ref = refs.pop(0) if with_bias else None
    scale_ref, shift_ref = (refs.pop(0), refs.pop(0)) if with_prologue else (None, None)
    y_ref = refs.pop(0)
    moment_refs = (refs.pop(0), refs.pop(0)) if statistics else None
    planes, h = y_ref.shape[1:3]
    lanes_in, lanes_out, reach = lanes
    source = (lambda z, *at: x_ref[(0, z, *at)]) if not with_prologue else None
    if with_prologue:
        (a_ref,) = refs
        first = pl.program_id(1) * planes - low[0]

        def activate(z, _):
            x = x_ref[0, z].astype(jnp.float32)
            a = x * scale_ref[0] + shift_ref[0]
            a = jnp.where(a >= 0, a, slope * a)
            row = lax.broadcasted_iota(jnp.int32, a.shape, 0) - low[1]
            column = lax.broadcasted_iota(jnp.int32, a.shape, 1)
            column = lax.div(column, jnp.int32(wide_ci)) - low[2]
            depth = first + z
            here = (row >= 0) & (row < inside[1]) & (column >= 0) & (column < inside[2])
            here = here & (depth >= 0) & (depth < inside[0])
            a_ref[z] = jnp.where(here, a, 0.0).astype(a_ref.dtype)
            return 0

        lax.fori_loop(np.int32(0), np.int32(planes + taps[0] - 1), activate, 0)
        source = lambda z, *at: a_ref[(z, *at)]  # noqa: E731

    def product(i, _):
        z, j = lax.div(i, jnp.int32(tiles)), lax.rem(i, jnp.int32(tiles))
        start = pl.ds(pl.multiple_of(j * lanes_in, _LANES), reach)
        total = jnp.zeros((h, lanes_out), jnp.float32)
        for dz in range(taps[0]):
            for dy in range(taps[1]):
                total += jnp.dot(
                    source(z + dz, pl.ds(dy, h), start),
                    band_ref[dz * taps[1] + dy],
                    precision=precision,
                    preferred_element_type=jnp.float32,
                )
        if with_bias:
            total = total + bias_ref[...]
        here = pl.ds(pl.multiple_of(j * lanes_out, _LANES), lanes_out)
        y_ref[0, z, :, here] = total.astype(y_ref.dtype)
        if moment_refs is not None:
            mean = jnp.mean(total, 0, keepdims=True)
            moment_refs[0][0, z, :, here] = mean
            moment_refs[1][0, z, :, here] = jnp.sum((total - mean) ** 2, 0, keepdims=True)
        return 0

    lax.fori_loop(np.int32(0), np.int32(planes * tiles), product, 0)


def banded(
    kernel: Float[Array, "kd kh kw ci co"], tile: int, reach: int
) -> Float[Array, "taps reach lanes"]:
    """Matrices ``[kd * kh, reach, tile * co]`` that convolve along the width.

    Row ``(p, c)`` is input channel `c` at position `p`, column ``(q, o)`` output channel `o` at
    position `q`; the entry is tap ``p - q``.
    """
    kd, kh, kw, ci, co = kernel.shape
    tap = jnp.arange(reach // ci)[:, None] - jnp.arange(tile)
    chosen = (tap == jnp.arange(kw)[:, None, None]).astype(kernel.dtype)  # [kw, p, q]
    band = jnp.einsum("zytco,tpq->zypcqo", kernel, chosen, precision="highest")
    return band.reshape(kd * kh, reach, tile * co)


def _planes(depth, kd, plane_bytes):
    """Planes of output a program: the most that divide the depth and fit into fast memory."""
    divisors = [n for n in range(1, depth + 1) if depth % n == 0]
    fits = [n for n in divisors if (n + kd - 1) * plane_bytes <= _BLOCK_BYTES]
    return max(fits, default=1)
