"""``K ad*_v m``: the force of a geodesic and the smoothing that makes a velocity of it.

On accelerators a fused kernel makes the force and its Fourier coefficients in the plane at once
(`kernels/ad_star_spectral.py`); elsewhere the two follow each other. K is self-adjoint, so that the
derivatives are `ad` and `ad_star` of smoothed cotangents.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.ops.kernels.ad_pallas import ad_pallas, ad_star_pallas
from jaxmedgen.ops.kernels.ad_star_spectral import ad_star_coefficients
from jaxmedgen.ops.kernels.pallas_support import Platform
from jaxmedgen.ops.lie_algebra import Backend, ad_star_planes
from jaxmedgen.ops.sobolev import Metric, filter_planes, fourier_angles, fourier_matrix


def smoothed_ad_star(
    v: Float[Array, " b n *s"],
    m: Float[Array, " b n *s"],
    metric: Metric,
    backend: Backend | str = "auto",
) -> Float[Array, " b n *s"]:
    """``K ad*_v m`` on a periodic grid, components first.

    Args:
        v: velocity in voxels.
        m: momentum.
        metric: gives K; ``pallas`` fuses where it is not coupled (beta = 0).
        backend: as `lie_algebra.ad`.
    """
    if backend == "pallas" and not metric.coupled:
        return smoothed_ad_star_pallas(v, m, metric)
    return filter_planes(ad_star_planes(v, m, backend), metric, 1)


def smoothed_ad_star_pallas(
    v: Float[Array, " b n *s"],
    m: Float[Array, " b n *s"],
    metric: Metric,
    *,
    platform: Platform | None = None,
    interpret: bool = False,
) -> Float[Array, " b n *s"]:
    """`smoothed_ad_star` by the fused kernel.

    Args:
        v: velocity in voxels.
        m: momentum.
        metric: not coupled.
        platform: "gpu" or "tpu"; the default device's by default.
        interpret: run the kernel as plain operations, on any machine. Slow, for tests.

    Raises:
        ValueError: a coupled metric, or what the kernel cannot take.
    """
    if metric.coupled:
        raise ValueError("the fused kernel needs a metric with beta = 0: use backend='xla'")
    return _smoothed((metric, platform, interpret), v, m)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _smoothed(setting, v, m):
    metric, platform, interpret = setting
    shape = v.shape[2:]
    matrices = [jnp.asarray(fourier_matrix(n), v.dtype) for n in shape]
    y = ad_star_coefficients(v, m, *matrices[-2:], platform=platform, interpret=interpret)
    n = len(shape)
    angles = [
        fourier_angles(s).reshape([-1 if i == j else 1 for j in range(n)])
        for i, s in enumerate(shape)
    ]
    symbol, _ = metric.kernel(angles, 1, v.dtype)
    if n == 3:
        y = jnp.einsum("dk,bcd...->bck...", matrices[0], y, precision="highest")
    y = y * symbol
    if n == 3:
        y = jnp.einsum("dk,bck...->bcd...", matrices[0], y, precision="highest")
    y = jnp.einsum("hk,...kw->...hw", matrices[-2], y, precision="highest")
    y = jnp.einsum("wk,...k->...w", matrices[-1], y, precision="highest")
    if metric.spacing is not None:
        y = y / jnp.square(jnp.asarray(metric.spacing, y.dtype)).reshape(-1, *(1,) * n)
    return y.astype(v.dtype)


def _smoothed_backward(setting, saved, g):
    metric, platform, interpret = setting
    v, m = saved
    run = {"platform": platform, "interpret": interpret}
    g = filter_planes(g, metric, 1)
    return -ad_star_pallas(g, m, **run), ad_pallas(v, g, **run)


_smoothed.defvjp(lambda setting, v, m: (_smoothed(setting, v, m), (v, m)), _smoothed_backward)
