"""ad and ad* of velocity fields as fused stencils: all derivatives and products in one pass.

``ad_v w = Dv w - Dw v`` and its transpose ``ad*_v m = (Dv)^T m + div(m (x) v)`` by periodic central
differences; `ops/lie_algebra.py` has the plain-XLA form and the reasons for this discretisation.
XLA makes several passes of them where it does not fuse through the shifts; here each field is read
once and the result written once, 9 numbers a voxel in 3D.

The two close under differentiation, so reverse-mode derivatives of every order are these kernels:
``<g, ad_v w>`` has gradients ``-ad*_w g`` to v and ``ad*_v g`` to w; ``<g, ad*_v m>`` has
``-ad*_g m`` to v and ``ad_v g`` to m. This holds exactly because the stencil is skew.
"""

import functools

import jax
from jaxtyping import Array, Float

from jaxmedgen.ops.kernels.ad_pallas_gpu import ad_gpu
from jaxmedgen.ops.kernels.ad_pallas_tpu import ad_tpu
from jaxmedgen.ops.kernels.pallas_support import Platform, check_addresses, kernel_platform


def ad_pallas(
    v: Float[Array, " b n *s"],
    w: Float[Array, " b n *s"],
    *,
    platform: Platform | None = None,
    interpret: bool = False,
) -> Float[Array, " b n *s"]:
    """``ad_v w`` on a periodic grid, 2D or 3D, components first.

    Args:
        v: velocity in voxels.
        w: likewise.
        platform: "gpu" or "tpu"; the default device's by default.
        interpret: run the kernel as plain operations, on any machine. Slow, for tests.

    Raises:
        ValueError: the fields do not fit each other, or the platform has no kernel.
    """
    _check(v, w)
    return _ad((kernel_platform(platform), interpret), v, w)


def ad_star_pallas(
    v: Float[Array, " b n *s"],
    m: Float[Array, " b n *s"],
    *,
    platform: Platform | None = None,
    interpret: bool = False,
) -> Float[Array, " b n *s"]:
    """``ad*_v m``, the exact transpose of `ad_pallas`; arguments as there, `m` is a momentum."""
    _check(v, m)
    return _ad_star((kernel_platform(platform), interpret), v, m)


def _run(rule, setting, v, w):
    platform, interpret = setting
    run = ad_gpu if platform == "gpu" else ad_tpu
    return run(rule, v, w, interpret=interpret)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _ad(setting, v, w):
    return _run("ad", setting, v, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _ad_star(setting, v, m):
    return _run("ad_star", setting, v, m)


def _ad_backward(setting, saved, g):
    v, w = saved
    return -_ad_star(setting, w, g), _ad_star(setting, v, g)


def _ad_star_backward(setting, saved, g):
    v, m = saved
    return -_ad_star(setting, g, m), _ad(setting, v, g)


_ad.defvjp(lambda setting, v, w: (_ad(setting, v, w), (v, w)), _ad_backward)
_ad_star.defvjp(lambda setting, v, m: (_ad_star(setting, v, m), (v, m)), _ad_star_backward)


def _check(v: jax.Array, w: jax.Array) -> None:
    if v.shape != w.shape or v.shape[1] != v.ndim - 2 or v.shape[1] not in (2, 3):
        raise ValueError(
            f"fields {v.shape} and {w.shape} must both be [b, n, *space] with n = 2 or 3 axes"
        )
    check_addresses(v)
