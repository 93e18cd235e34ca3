"""3D convolution as one Triton kernel for GPUs: an implicit matrix product.

A program computes `_VOXELS` output voxels times up to 64 output channels. It walks over the
``taps x input channels`` long axis of the product in steps of `_DEPTH`, gathers that slab of the
patch matrix straight from the image (no patch matrix in memory), and accumulates in float32. The
walk runs over taps and channels together, so that 8 channels fill a step of 32 as well as 32 do.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from jaxmedgen.ops.kernels.pallas_support import next_power_of_two

_VOXELS, _DEPTH = 128, 32  # block of the product: rows, and length of one step
_COLUMNS = 64  # output channels of a block at most


def conv3d_gpu(x, kernel, bias, scale, shift, *, slope, statistics, precision, interpret):
    """Output ``[b, d, h, w, co]`` and, with `statistics`, block moments (see `merge_moments`)."""
    b, *space, ci = x.shape
    *taps, _, co = kernel.shape
    voxels = space[0] * space[1] * space[2]
    columns = min(_COLUMNS, max(16, next_power_of_two(co)))
    grid = (pl.cdiv(voxels, _VOXELS), pl.cdiv(co, columns), b)
    accumulate = jnp.float64 if x.dtype == jnp.float64 else jnp.float32

    def whole(*shape):
        return pl.BlockSpec(shape, lambda i, j, n: (0,) * len(shape))

    def sample(*shape):
        return pl.BlockSpec((None, *shape), lambda i, j, n: (n, *(0,) * len(shape)))

    inputs = [x.reshape(b, voxels * ci), kernel.reshape(-1)]
    in_specs = [sample(voxels * ci), whole(kernel.size)]
    if bias is not None:
        inputs.append(bias)
        in_specs.append(whole(co))
    if scale is not None:
        inputs += [scale, shift]
        in_specs += [sample(ci), sample(ci)]
    out_shape = [jax.ShapeDtypeStruct((b, voxels * co), x.dtype)]
    out_specs = [sample(voxels * co)]
    if statistics:
        out_shape += [jax.ShapeDtypeStruct((b, grid[0] * co), accumulate)] * 2
        out_specs += [sample(grid[0] * co)] * 2
    body = functools.partial(
        _kernel,
        space=tuple(space),
        taps=tuple(taps),
        channels=(ci, co),
        columns=columns,
        with_bias=bias is not None,
        with_prologue=scale is not None,
        slope=slope,
        precision=precision,
        accumulate=accumulate,
    )
    y, *moments = pl.pallas_call(
        body,
        grid=grid,
        in_specs=in_specs,
        out_specs=out_specs,
        out_shape=out_shape,
        compiler_params=plgpu.CompilerParams(num_warps=4, num_stages=3),
        interpret=interpret,
        name="conv3d",
    )(*inputs)
    y = y.reshape(b, *space, co)
    if not statistics:
        return y, None
    counts = jnp.minimum(_VOXELS, voxels - _VOXELS * jnp.arange(grid[0]))
    mean, squares = (m.reshape(b, grid[0], co) for m in moments)
    return y, (counts.astype(accumulate)[:, None], mean, squares)


def _kernel(
    x_ref,
    w_ref,
    *refs,
    space,
    taps,
    channels,
    columns,
    with_bias,
    with_prologue,
    slope,
    precision,
    accumulate,
):
    refs = list(refs)
    bias_ref = refs.pop(0) if with_bias else None
    scale_ref, shift_ref = (refs.pop(0), refs.pop(0)) if with_prologue else (None, None)
    y_ref, *moment_refs = refs
    ci, co = channels
    voxels, depth = space[0] * space[1] * space[2], taps[0] * taps[1] * taps[2] * ci
    voxel = pl.program_id(0) * _VOXELS + lax.iota(jnp.int32, _VOXELS)
    column = pl.program_id(1) * columns + lax.iota(jnp.int32, columns)
    here = _unravel(voxel, space)
    exists = column < co

    def step(i, total):
        row = jnp.int32(i) * _DEPTH + lax.iota(jnp.int32, _DEPTH)
        # lax, not // and %: no code for negative numbers, which would hide contiguity.
        tap, channel = lax.div(row, jnp.int32(ci)), lax.rem(row, jnp.int32(ci))
        offset = [t - k // 2 for t, k in zip(_unravel(tap, taps), taps)]
        inside = (row < depth)[None, :]
        for position, move, size in zip(here, offset, space):
            there = position[:, None] + move[None, :]
            inside = inside & (there >= 0) & (there < size)
        move = (offset[0] * space[1] + offset[1]) * space[2] + offset[2]
        index = voxel[:, None] * ci + (move * ci + channel)[None, :]
        value = plgpu.load(x_ref.at[index], mask=inside, other=0)
        if with_prologue:
            known = row < depth
            factor = plgpu.load(scale_ref.at[channel], mask=known, other=0)
            offset = plgpu.load(shift_ref.at[channel], mask=known, other=0)
            value = value.astype(accumulate) * factor[None, :] + offset[None, :]
            value = jnp.where(value >= 0, value, slope * value)
            value = jnp.where(inside, value, 0).astype(x_ref.dtype)
        weight = plgpu.load(
            w_ref.at[row[:, None] * co + column[None, :]],
            mask=(row < depth)[:, None] & exists[None, :],
            other=0,
        )
        product = jnp.dot(value, weight, precision=precision, preferred_element_type=accumulate)
        return total + product

    total = jnp.zeros((_VOXELS, columns), accumulate)
    total = lax.fori_loop(0, pl.cdiv(depth, _DEPTH), step, total)
    if with_bias:
        bias = plgpu.load(bias_ref.at[column], mask=exists, other=0)
        total = total + bias.astype(accumulate)[None, :]
    computed = (voxel < voxels)[:, None]
    plgpu.store(
        y_ref.at[voxel[:, None] * co + column[None, :]],
        total.astype(y_ref.dtype),
        mask=computed & exists[None, :],
    )
    if moment_refs:
        count = jnp.minimum(_VOXELS, voxels - pl.program_id(0) * _VOXELS).astype(accumulate)
        mean = jnp.sum(jnp.where(computed, total, 0), 0) / count
        squares = jnp.sum(jnp.where(computed, (total - mean[None, :]) ** 2, 0), 0)
        for ref, value in zip(moment_refs, (mean, squares)):
            plgpu.store(ref.at[pl.program_id(0) * co + column], value, mask=exists)


def _unravel(index, shape):
    """Coordinates on a 3D grid of a flat index that is not negative."""
    rest, last = lax.div(index, jnp.int32(shape[2])), lax.rem(index, jnp.int32(shape[2]))
    first, middle = lax.div(rest, jnp.int32(shape[1])), lax.rem(rest, jnp.int32(shape[1]))
    return first, middle, last
