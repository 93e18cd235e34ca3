"""ad* and the smoothing after it in one kernel: in-plane Fourier coefficients of ``ad*_v m``.

One program makes a plane of ``ad*_v m`` and transforms it along height and width before it leaves
the chip: two products with real Fourier matrices, which is what matrix units are for. What is left
of ``K ad*_v m`` - transform along depth, symbol, way back - is XLA's (`ops/smoothed_ad.py`). The
force itself, as large as a field, is never written.

On GPUs, height and width must be powers of two of at least 16 (a program holds whole planes).
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Array, Float

from jaxmedgen.ops.kernels.ad_pallas_rules import ad_star_rule
from jaxmedgen.ops.kernels.ad_pallas_tpu import read_plane
from jaxmedgen.ops.kernels.pallas_support import (
    Platform,
    check_addresses,
    kernel_platform,
    next_power_of_two,
)

_LEAST = 16  # edge of the smallest matrix product on a GPU


def ad_star_coefficients(
    v: Float[Array, " b n *s"],
    m: Float[Array, " b n *s"],
    height_matrix: Float[Array, "h h"],
    width_matrix: Float[Array, "w w"],
    *,
    platform: Platform | None = None,
    interpret: bool = False,
) -> Float[Array, " b n *s"]:
    """``F_h^T (ad*_v m) F_w`` of every plane of the last two axes; no derivatives of its own.

    Args:
        v: velocity in voxels, components first, 2D or 3D, periodic.
        m: momentum, likewise.
        height_matrix: F_h, columns are basis vectors.
        width_matrix: F_w.
        platform: "gpu" or "tpu"; the default device's by default.
        interpret: run the kernel as plain operations, on any machine. Slow, for tests.

    Raises:
        ValueError: fields that do not fit, no kernel for the platform, or planes that a GPU cannot
            take.
    """
    n, *shape = v.shape[1:]
    if v.shape != m.shape or n != len(shape) or n not in (2, 3):
        raise ValueError(f"fields {v.shape} and {m.shape} must both be [b, n, *space], n = 2 or 3")
    check_addresses(v)
    if n == 2:
        v, m = v[:, :, None], m[:, :, None]
    run = _on_gpu if kernel_platform(platform) == "gpu" else _on_tpu
    out = run(v, m, height_matrix.T, width_matrix, n, interpret)
    return out.reshape(out.shape[0], n, *shape)


def _transformed(plane, height_matrix, width_matrix):
    wide = jnp.dot(plane, width_matrix, precision="highest", preferred_element_type=jnp.float32)
    return jnp.dot(height_matrix, wide, precision="highest", preferred_element_type=jnp.float32)


def _on_tpu(v, m, height_matrix, width_matrix, n, interpret):
    b, _, depth, height, width = v.shape
    views = (0, 1, -1) if n == 3 else (0,)

    def plane(move):
        def index(sample, z):
            return sample, 0, lax.rem(z + jnp.int32(depth + move), jnp.int32(depth)), 0, 0

        return pl.BlockSpec((1, n, 1, height, width), index)

    def body(*refs):
        *fields, height_ref, width_ref, out_ref = refs
        readers = []
        for first in (0, len(views)):
            planes = dict(zip(views, fields[first : first + len(views)]))
            readers.append(functools.cache(functools.partial(read_plane, planes, n)))
        for i, value in enumerate(ad_star_rule(n, *readers)):
            made = _transformed(value, height_ref[...], width_ref[...])
            out_ref[0, i, 0] = made.astype(out_ref.dtype)

    matrices = [pl.BlockSpec((s, s), lambda sample, z: (0, 0)) for s in (height, width)]
    return pl.pallas_call(
        body,
        grid=(b, depth),
        in_specs=[plane(move) for move in views] * 2 + matrices,
        out_specs=plane(0),
        out_shape=jax.ShapeDtypeStruct(v.shape, v.dtype),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel"), vmem_limit_bytes=64 << 20
        ),
        interpret=interpret,
        name="ad_star_coefficients",
    )(*[v] * len(views), *[m] * len(views), height_matrix, width_matrix)


def _on_gpu(v, m, height_matrix, width_matrix, n, interpret):
    b, _, depth, height, width = v.shape
    if any(s < _LEAST or s != next_power_of_two(s) for s in (height, width)):
        raise ValueError(
            f"planes of {height} x {width}: on GPUs height and width must be powers of two >= "
            f"{_LEAST}; use backend='xla'"
        )

    def body(v_ref, m_ref, height_ref, width_ref, out_ref):
        z = pl.program_id(0)
        row, column = (lax.broadcasted_iota(jnp.int32, (height, width), axis) for axis in (0, 1))

        def moved(at, size, by):
            return at if by == 0 else lax.rem(at + jnp.int32(size + by), jnp.int32(size))

        def reader(ref):
            def read(component, axis=0, by=0):
                # Axes of a 2D field are height and width.
                place = axis + 3 - n
                at = [z, row, column]
                at[place] = moved(at[place], (depth, height, width)[place], by)
                index = ((component * depth + at[0]) * height + at[1]) * width + at[2]
                return plgpu.load(ref.at[index])

            return read

        left, right = height_ref[...], width_ref[...]
        for i, value in enumerate(ad_star_rule(n, reader(v_ref), reader(m_ref))):
            made = _transformed(value, left, right).astype(out_ref.dtype)
            plgpu.store(out_ref.at[((i * depth + z) * height + row) * width + column], made)

    voxels = n * depth * height * width
    field = pl.BlockSpec((None, voxels), lambda z, sample: (sample, 0))
    matrices = [pl.BlockSpec((s, s), lambda z, sample: (0, 0)) for s in (height, width)]
    out = pl.pallas_call(
        body,
        grid=(depth, b),
        in_specs=[field, field, *matrices],
        out_specs=field,
        out_shape=jax.ShapeDtypeStruct((b, voxels), v.dtype),
        compiler_params=plgpu.CompilerParams(num_warps=8, num_stages=1),
        interpret=interpret,
        name="ad_star_coefficients",
    )(v.reshape(b, -1), m.reshape(b, -1), height_matrix, width_matrix)
    return out.reshape(v.shape)
