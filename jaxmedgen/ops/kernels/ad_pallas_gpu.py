"""The stencils of ad and ad* on GPUs in Triton: one pass over both fields.

A program takes a block of voxels in memory order, reads the neighbours of every component (from
cache: each is read by seven programs, or by seven voxels of one) and writes all components.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from jaxmedgen.ops.kernels.ad_pallas_rules import RULES

_VOXELS = 256  # of one program


def ad_gpu(rule, v, w, *, interpret):
    """`rule` ("ad" or "ad_star") of fields ``[b, n, *s]``."""
    b, n, *shape = v.shape
    voxels = math.prod(shape)

    def body(v_ref, w_ref, out_ref):
        voxel = pl.program_id(0) * _VOXELS + lax.iota(jnp.int32, _VOXELS)
        exists = voxel < voxels
        steps, rest, stride = {}, voxel, 1
        for axis in reversed(range(n)):
            size = shape[axis]
            at = lax.rem(rest, jnp.int32(size))
            rest = lax.div(rest, jnp.int32(size))
            steps[axis, 1] = jnp.where(at == size - 1, 1 - size, 1) * stride
            steps[axis, -1] = jnp.where(at == 0, size - 1, -1) * stride
            stride *= size

        def reader(ref):
            def read(component, axis=0, by=0):
                index = voxel if by == 0 else voxel + steps[axis, by]
                return plgpu.load(ref.at[component * voxels + index], mask=exists, other=0)

            return read

        for i, value in enumerate(RULES[rule](n, reader(v_ref), reader(w_ref))):
            plgpu.store(out_ref.at[i * voxels + voxel], value.astype(out_ref.dtype), mask=exists)

    spec = pl.BlockSpec((None, n * voxels), lambda i, sample: (sample, 0))
    out = pl.pallas_call(
        body,
        grid=(pl.cdiv(voxels, _VOXELS), b),
        in_specs=[spec, spec],
        out_specs=spec,
        out_shape=jax.ShapeDtypeStruct((b, n * voxels), v.dtype),
        compiler_params=plgpu.CompilerParams(num_warps=4, num_stages=1),
        interpret=interpret,
        name=rule,
    )(v.reshape(b, -1), w.reshape(b, -1))
    return out.reshape(v.shape)
