"""Lie algebra of velocity fields on a periodic grid: ad, ad* and ad-dagger.

``ad_v w = Dv w - Dw v`` (minus the Jacobi-Lie bracket), its transpose in L2
``ad*_v m = (Dv)^T m + div(m (x) v)`` and its transpose in the metric ``ad+_v w = K ad*_v L w``.

One skew-symmetric stencil, the periodic central difference, is used everywhere and ``ad*`` is in
conservative form. It is then the exact transpose of ``ad``: ``<ad*_v m, v> = 0`` and the sum of the
momentum are kept to round-off. The expanded form ``Dm v + m div v`` loses energy.

Sources: Arnold, "Sur la geometrie differentielle des groupes de Lie de dimension infinie", 1966;
Miller, Trouve, Younes, "Geodesic shooting for computational anatomy", 2006.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad as ad_rules
from jax.interpreters import batching, mlir
from jaxtyping import Array, Float

from jaxmedgen.ops.kernels.ad_pallas import ad_pallas, ad_star_pallas
from jaxmedgen.ops.kernels.shooting_native import stencil_native, use_native
from jaxmedgen.ops.sobolev import Metric, filter_planes, planes

Backend = Literal["auto", "xla", "native", "pallas"]


def ad(
    v: Float[Array, " b *s n"], w: Float[Array, " b *s n"], *, backend: Backend | str = "auto"
) -> Float[Array, " b *s n"]:
    """``ad_v w = Dv w - Dw v``, ``(Dv)_ij = d_j v_i``.

    Args:
        v: velocity in voxels, 2D or 3D, periodic.
        w: likewise.
        backend: "xla" runs everywhere; "native" is the C++ kernel for CPU, float32; "pallas" the
            kernel for GPU or TPU; "auto" takes the C++ kernel on a single CPU device and XLA
            elsewhere.

    Raises:
        ValueError: fields of wrong shape, an unknown backend or one that cannot be had.
    """
    _check(v, w)
    return jnp.moveaxis(ad_planes(planes(v), planes(w), backend), 1, -1)


def ad_star(
    v: Float[Array, " b *s n"], m: Float[Array, " b *s n"], *, backend: Backend | str = "auto"
) -> Float[Array, " b *s n"]:
    """``(ad*_v m)_i = sum_j (d_i v_j) m_j + sum_j d_j (v_j m_i)``; arguments as in `ad`."""
    _check(v, m)
    return jnp.moveaxis(ad_star_planes(planes(v), planes(m), backend), 1, -1)


def ad_dagger(
    v: Float[Array, " b *s n"], w: Float[Array, " b *s n"], metric: Metric
) -> Float[Array, " b *s n"]:
    """``ad+_v w = K ad*_v (L w)``: the transpose of `ad` in the metric."""
    _check(v, w)
    momentum = filter_planes(planes(w), metric, -1)
    return jnp.moveaxis(filter_planes(ad_star_planes(planes(v), momentum), metric, 1), 1, -1)


def ad_planes(
    v: Float[Array, " b n *s"], w: Float[Array, " b n *s"], backend: Backend | str = "auto"
) -> Float[Array, " b n *s"]:
    """`ad` of fields with components first."""
    if backend == "pallas":
        return ad_pallas(v, w)
    return _ad_p.bind(v, w, native=_native(backend, v, w))


def ad_star_planes(
    v: Float[Array, " b n *s"], m: Float[Array, " b n *s"], backend: Backend | str = "auto"
) -> Float[Array, " b n *s"]:
    """`ad_star` of fields with components first."""
    if backend == "pallas":
        return ad_star_pallas(v, m)
    return _ad_star_p.bind(v, m, native=_native(backend, v, m))


def difference(x: Float[Array, " b *s"], axis: int) -> Float[Array, " b *s"]:
    """Periodic central difference along spatial axis `axis`."""
    return 0.5 * (jnp.roll(x, -1, axis + 1) - jnp.roll(x, 1, axis + 1))


def _ad(v, w):
    dv, dw = _derivatives(v), _derivatives(w)
    n = v.shape[1]
    rows = [sum(dv[i][j] * w[:, j] - dw[i][j] * v[:, j] for j in range(n)) for i in range(n)]
    return jnp.stack(rows, 1)


def _ad_star(v, m):
    n = v.shape[1]
    va, ma = _extend(v), _extend(m)
    rows = []
    for i in range(n):
        total = 0.0
        for j in range(n):
            total += (_shifted(va[:, j], i, 1) - _shifted(va[:, j], i, -1)) * m[:, j]
            total += _shifted(va[:, j], j, 1) * _shifted(ma[:, i], j, 1)
            total -= _shifted(va[:, j], j, -1) * _shifted(ma[:, i], j, -1)
        rows.append(0.5 * total)
    return jnp.stack(rows, 1)


def _derivatives(x):
    """``[i][j] = d_j x_i``."""
    n, wide = x.shape[1], _extend(x)
    return [
        [0.5 * (_shifted(wide[:, i], j, 1) - _shifted(wide[:, i], j, -1)) for j in range(n)]
        for i in range(n)
    ]


def _extend(x):
    """One voxel of the opposite side on every face, so that all shifts are plain slices."""
    return jnp.pad(x, [(0, 0), (0, 0)] + [(1, 1)] * (x.ndim - 2), mode="wrap")


def _shifted(x, axis, by):
    """Interior of an extended component ``[b, *s + 2]``, moved by one voxel along `axis`."""
    index = [slice(None)]
    for a, size in enumerate(x.shape[1:]):
        start = 1 + (by if a == axis else 0)
        index.append(slice(start, start + size - 2))
    return x[tuple(index)]


def _native(backend, v, m) -> bool:
    if backend not in get_args(Backend):
        raise ValueError(f"backend {backend!r} is unknown: use one of {get_args(Backend)}")
    return v.dtype == m.dtype and use_native(backend, v.dtype, "lie_algebra")


def _check(v: jax.Array, w: jax.Array) -> None:
    if v.shape != w.shape or v.shape[-1] != v.ndim - 2:
        raise ValueError(
            f"fields {v.shape} and {w.shape} must both be [b, *space, n] with n axes of space"
        )


def _bilinear(name, symbol, function, transpose_first, transpose_second):
    """A primitive for a bilinear map of two fields, with its transposes.

    Left to automatic differentiation, the transposed shifts take thirty times the time of the
    stencil. Both transposes are stencils of the same kind, so derivatives of any order and mode
    stay cheap.
    """
    primitive = Primitive(name)

    def plain(v, m, *, native):
        return function(v, m)

    def on_cpu(v, m, *, native):
        return stencil_native(symbol, v, m) if native else function(v, m)

    primitive.def_impl(jax.jit(primitive.bind, static_argnames="native"))
    primitive.def_abstract_eval(lambda v, m, *, native: v)
    mlir.register_lowering(primitive, mlir.lower_fun(plain, multiple_results=False))
    mlir.register_lowering(
        primitive, mlir.lower_fun(on_cpu, multiple_results=False), platform="cpu"
    )
    ad_rules.defbilinear(
        primitive,
        lambda cotangent, v, m, *, native: transpose_first(cotangent, m, native),
        lambda cotangent, v, m, *, native: transpose_second(cotangent, v, native),
    )

    def batched(arguments, axes, *, native):
        size = next(x.shape[a] for x, a in zip(arguments, axes) if a is not None)
        whole = [
            jnp.broadcast_to(x, (size, *x.shape)) if a is None else jnp.moveaxis(x, a, 0)
            for x, a in zip(arguments, axes)
        ]
        v, m = (x.reshape(-1, *x.shape[2:]) for x in whole)
        return primitive.bind(v, m, native=native).reshape(whole[0].shape), 0

    batching.primitive_batchers[primitive] = batched
    return primitive


# <ad_v w, c> = <w, ad*_v c> = -<v, ad*_w c> and <ad*_v m, c> = <m, ad_v c> = -<v, ad*_c m>.
_ad_p = _bilinear(
    "jaxmedgen_ad",
    "LieAlgebraAd",
    _ad,
    lambda c, w, native: -_ad_star_p.bind(w, c, native=native),
    lambda c, v, native: _ad_star_p.bind(v, c, native=native),
)
_ad_star_p = _bilinear(
    "jaxmedgen_ad_star",
    "LieAlgebraAdStar",
    _ad_star,
    lambda c, m, native: -_ad_star_p.bind(c, m, native=native),
    lambda c, v, native: _ad_p.bind(v, c, native=native),
)
