"""Semi-Lagrangian steps on GPUs in Triton: gathers of a periodic vector field, and the update.

A program takes a block of voxels and keeps their displacement in registers between the gathers.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.pallas import triton as plgpu

from jaxmedgen.ops.kernels.resample_pallas_gpu import (
    axis_taps,
    block_points,
    call,
    gather,
    load_component,
)


def characteristic_gpu(v, dt, interpret):
    """``dt v(x + dt v(x) / 2)`` of a field ``[b, *s, n]``."""

    def update(at, load, sample):
        middle = [x + 0.5 * dt * w for x, w in zip(at, load(0))]
        return [dt * w for w in sample(0, middle)]

    return _each_voxel(update, [v], "characteristic", interpret)


def inverse_step_gpu(u, v, dt, interpret):
    """``w + u(x + w)`` with ``w = -dt v(x - dt v(x) / 2)``."""

    def update(at, load, sample):
        middle = [x - 0.5 * dt * w for x, w in zip(at, load(1))]
        step = [-dt * w for w in sample(1, middle)]
        origin = [x + w for x, w in zip(at, step)]
        return [w + moved for w, moved in zip(step, sample(0, origin))]

    return _each_voxel(update, [u, v], "inverse_step", interpret)


def follow_gpu(u, step, interpret):
    """``u + w(x + u)`` with the field w `step`."""

    def update(at, load, sample):
        here = load(0)
        target = [x + w for x, w in zip(at, here)]
        return [w + more for w, more in zip(here, sample(1, target))]

    return _each_voxel(update, [u, step], "follow", interpret)


def _each_voxel(update, fields, name, interpret):
    b, *shape, n = fields[0].shape
    voxels, dtype = math.prod(shape), fields[0].dtype

    def body(*refs):
        *refs, out_ref = refs
        voxel, exists = block_points(voxels)
        at, rest = [], voxel
        for size in reversed(shape):
            at.insert(0, lax.rem(rest, jnp.int32(size)).astype(dtype))
            rest = lax.div(rest, jnp.int32(size))

        def load(i):
            return [load_component(refs[i], voxel, exists, axis, n) for axis in range(n)]

        def sample(i, x):
            seen = axis_taps(x, shape, "wrap")
            channels = [lax.iota(jnp.int32, 1) + c for c in range(n)]
            return [gather(refs[i], seen, shape, c, n)[:, 0] for c in channels]

        for axis, value in enumerate(update(at, load, sample)):
            plgpu.store(out_ref.at[voxel * n + axis], value.astype(dtype), mask=exists)

    out_shape = [jax.ShapeDtypeStruct((b, voxels * n), dtype)]
    out = call(body, voxels, fields, out_shape, name=name, interpret=interpret)[0]
    return out.reshape(fields[0].shape)
