"""Linear resampling on GPUs in Triton: a gather, and its transpose with the coordinates' gradient.

A program takes a block of output points. The forward pass reads each coordinate once and serves all
channels with it. The backward pass reads the incoming gradient and the image once and makes both
gradients: to the image by atomic additions, to the coordinates from the same eight voxels.

`axis_taps` and `gather` are also what the fused semi-Lagrangian step is made of.
"""

import itertools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from jaxmedgen.ops.kernels.pallas_support import next_power_of_two
from jaxmedgen.ops.kernels.resample_xla import taps

POINTS = 128  # of one program
_CHANNELS = 16  # held at once at most


def resample_gpu(image, points, *, mode, interpret):
    """Values ``[b, p, c]`` of image ``[b, *s, c]`` at points ``[b, p, n]``."""
    b, *shape, channels = image.shape
    count, n = points.shape[1:]

    def body(image_ref, points_ref, out_ref):
        point, exists = block_points(count)
        x = [load_component(points_ref, point, exists, axis, n) for axis in range(n)]
        seen = axis_taps(x, shape, mode)
        for channel, real, safe in _chunks(channels):
            plgpu.store(
                out_ref.at[point[:, None] * channels + channel[None, :]],
                gather(image_ref, seen, shape, safe, channels).astype(out_ref.dtype),
                mask=exists[:, None] & real[None, :],
            )

    out = call(
        body,
        count,
        [image, points],
        [jax.ShapeDtypeStruct((b, count * channels), image.dtype)],
        name="resample",
        interpret=interpret,
    )[0]
    return out.reshape(b, count, channels)


def resample_gradient_gpu(image, points, g, *, mode, interpret):
    """Gradients to image and points of ``sum(g * resample_gpu(image, points))``."""
    b, *shape, channels = image.shape
    count, n = points.shape[1:]
    sums = jnp.promote_types(image.dtype, jnp.float32)

    def body(image_ref, points_ref, g_ref, _, image_gradient_ref, gradient_ref):
        point, exists = block_points(count)
        x = [load_component(points_ref, point, exists, axis, n) for axis in range(n)]
        seen = axis_taps(x, shape, mode)
        slopes = [0.0] * n
        for channel, real, safe in _chunks(channels):
            g = plgpu.load(
                g_ref.at[point[:, None] * channels + channel[None, :]],
                mask=exists[:, None] & real[None, :],
                other=0,
            ).astype(sums)
            for corner in itertools.product((0, 1), repeat=n):
                index, weights = _corner(seen, corner, shape)
                at = index[:, None] * channels + safe[None, :]
                weight = math.prod(weights)[:, None].astype(sums)
                # Lowers to an atomic addition; points and channels that do not exist add zero.
                jax.ref.addupdate(image_gradient_ref, (at,), weight * g)
                product = jnp.sum(g * image_ref[at].astype(sums), 1).astype(gradient_ref.dtype)
                for axis, side in enumerate(corner):
                    others = math.prod(weights[:axis] + weights[axis + 1 :])
                    slope = product * others * seen[axis][side][2]
                    slopes[axis] = slopes[axis] + (slope if side else -slope)
        for axis, size in enumerate(shape):
            slope = slopes[axis]
            if mode == "border":
                slope = jnp.where((x[axis] >= 0) & (x[axis] <= size - 1), slope, 0)
            plgpu.store(gradient_ref.at[point * n + axis], slope, mask=exists)

    zeros = jnp.zeros((b, math.prod(shape) * channels), sums)
    image_gradient, gradient = call(
        body,
        count,
        [image, points, g, zeros],
        [
            jax.ShapeDtypeStruct(zeros.shape, sums),
            jax.ShapeDtypeStruct((b, count * n), points.dtype),
        ],
        aliases={3: 0},
        name="resample_gradient",
        interpret=interpret,
    )
    return (
        image_gradient.reshape(image.shape).astype(image.dtype),
        gradient.reshape(points.shape),
    )


def call(body, count, inputs, out_shape, *, name, interpret, aliases=None):
    """Runs `body` for each block of points of each sample, on arrays flattened a sample."""
    inputs = [x.reshape(x.shape[0], -1) for x in inputs]

    def spec(x):
        return pl.BlockSpec((None, x.shape[1]), lambda i, sample: (sample, 0))

    return pl.pallas_call(
        body,
        grid=(pl.cdiv(count, POINTS), inputs[0].shape[0]),
        in_specs=[spec(x) for x in inputs],
        out_specs=[spec(x) for x in out_shape],
        out_shape=out_shape,
        input_output_aliases=aliases or {},
        compiler_params=plgpu.CompilerParams(num_warps=4, num_stages=1),
        interpret=interpret,
        name=name,
    )(*inputs)


def block_points(count):
    """Numbers of this program's points, and which of them there are."""
    point = pl.program_id(0) * POINTS + lax.iota(jnp.int32, POINTS)
    return point, point < count


def load_component(ref, point, exists, axis, n):
    """Component `axis` of the vector at each point of a flat field ``[p * n]``."""
    return plgpu.load(ref.at[point * n + axis], mask=exists, other=0)


def axis_taps(x, shape, mode):
    """The two voxels around each point on each axis: index, weight, and 1 or 0 for inside."""
    seen = []
    for position, size in zip(x, shape):
        pair = []
        for index, weight, inside in taps(position, size, 1, mode):
            inside = inside.astype(weight.dtype) if mode == "constant" else jnp.ones_like(weight)
            pair.append((index, weight * inside, inside))
        seen.append(pair)
    return seen


def gather(ref, seen, shape, channel, channels):
    """Linearly weighted values ``[points, channel]`` of a flat image with channels last."""
    total = 0.0
    for corner in itertools.product((0, 1), repeat=len(shape)):
        index, weights = _corner(seen, corner, shape)
        value = ref[index[:, None] * channels + channel[None, :]]
        total = total + math.prod(weights)[:, None] * value.astype(weights[0].dtype)
    return total


def _corner(seen, corner, shape):
    """Flat voxel index of a corner and its weight along each axis."""
    index, weights = 0, []
    for pair, side, size in zip(seen, corner, shape):
        index = index * size + pair[side][0]
        weights.append(pair[side][1])
    return index, weights


def _chunks(channels):
    """Channels in groups of a power of two: numbers, which exist, and numbers that all exist.

    Up to four go one by one, which leaves no slot empty. Slots that stay empty in a larger group
    read the last channel again, and add nothing to it.
    """
    width = 1 if channels <= 4 else min(_CHANNELS, next_power_of_two(channels))
    for start in range(0, channels, width):
        channel = start + lax.iota(jnp.int32, width)
        full = start + width <= channels
        # No minimum where it does nothing: it would hide that the addresses are contiguous.
        yield channel, channel < channels, channel if full else jnp.minimum(channel, channels - 1)
