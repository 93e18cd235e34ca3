"""The stencils of ad and ad* on TPU in Mosaic: one program a plane of depth.

Width lies on the lanes and height on the sublanes. The planes above and below come as two more
views of the same array, whose index maps wrap round.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from jaxmedgen.ops.kernels.ad_pallas_rules import RULES


def ad_tpu(rule, v, w, *, interpret):
    """`rule` ("ad" or "ad_star") of fields ``[b, n, *s]``."""
    shape = v.shape
    n = shape[1]
    if n == 2:
        v, w = v[:, :, None], w[:, :, None]
    b, _, depth, height, width = v.shape

    def plane(move):
        def index(sample, z):
            z = lax.rem(z + jnp.int32(depth + move), jnp.int32(depth))
            return sample, 0, z, 0, 0

        return pl.BlockSpec((1, n, 1, height, width), index)

    views = (0, 1, -1) if n == 3 else (0,)

    def body(*refs):
        *inputs, out_ref = refs
        readers = []
        for first in (0, len(views)):
            planes = dict(zip(views, inputs[first : first + len(views)]))
            readers.append(functools.cache(functools.partial(read_plane, planes, n)))
        for i, value in enumerate(RULES[rule](n, *readers)):
            out_ref[0, i, 0] = value.astype(out_ref.dtype)

    specs = [plane(move) for move in views]
    out = pl.pallas_call(
        body,
        grid=(b, depth),
        in_specs=specs * 2,
        out_specs=plane(0),
        out_shape=jax.ShapeDtypeStruct(v.shape, v.dtype),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel"), vmem_limit_bytes=64 << 20
        ),
        interpret=interpret,
        name=rule,
    )(*[v] * len(views), *[w] * len(views))
    return out.reshape(shape)


def read_plane(planes, n, component, axis=0, by=0):
    """A component of this plane, moved by one voxel along an axis of the field."""
    in_plane = axis - (n - 2)
    if by == 0 or in_plane >= 0:
        here = planes[0][0, component, 0]
        if by == 0:
            return here
        first = lax.slice_in_dim(here, 0, 1 if by > 0 else -1, axis=in_plane)
        last = lax.slice_in_dim(here, 1 if by > 0 else -1, None, axis=in_plane)
        return jnp.concatenate([last, first], in_plane)
    return planes[by][0, component, 0]
