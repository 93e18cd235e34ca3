"""Geodesic equations of diffeomorphisms (EPDiff) in their equivalent forms.

- momentum form: ``d_t m = -ad*_v m``, ``v = K m``;
- velocity (Lie-bracket) form: ``d_t v = -ad+_v v = -K ad*_v (L v)``;
- integrated (coadjoint) form: ``m_t = |D psi| (D psi)^T (m_0 o psi)`` of the inverse map psi, so no
  derivative of a rough momentum is ever taken;
- scalar form: ``m_t = -P_t grad I_t`` with ``I_t = I_0 o psi``, ``P_t = |D psi| P_0 o psi``, the
  geodesics normal to the orbit of an image.

Energy ``<m, v> / 2`` and total momentum are constant. In the integrated form both the determinant
and the transpose belong: without them the momentum is 23 % and 31 % off while the energy hardly
drifts.

Sources: Miller, Trouve, Younes, "Geodesic shooting for computational anatomy", 2006; Vialard et
al., "Diffeomorphic 3D image registration via geodesic shooting", 2012; Younes et al., "Evolutions
equations in computational anatomy", 2009.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.ops.lie_algebra import Backend, ad_star_planes, difference
from jaxmedgen.ops.smoothed_ad import smoothed_ad_star
from jaxmedgen.ops.sobolev import Metric, filter_planes
from jaxmedgen.ops.transport import sample_periodic


def momentum_slope(
    momentum: Float[Array, " b n *s"],
    metric: Metric,
    velocity: Float[Array, " b n *s"] | None = None,
    backend: Backend | str = "auto",
) -> Float[Array, " b n *s"]:
    """``-ad*_v m`` with ``v = K m``; components first.

    Args:
        momentum: m.
        metric: gives K.
        velocity: ``K m`` where it is known.
        backend: of ``ad*``, see `lie_algebra.ad`.
    """
    if velocity is None:
        velocity = filter_planes(momentum, metric, 1)
    return -ad_star_planes(velocity, momentum, backend)


def velocity_slope(
    velocity: Float[Array, " b n *s"], metric: Metric, backend: Backend | str = "auto"
) -> Float[Array, " b n *s"]:
    """``-K ad*_v (L v)``; components first; `backend` as in `momentum_slope`."""
    momentum = filter_planes(velocity, metric, -1)
    return -smoothed_ad_star(velocity, momentum, metric, backend)


def coadjoint_momentum(
    inverse: Float[Array, " b *s n"], momentum: Float[Array, " b *s n"], *, order: int = 3
) -> Float[Array, " b n *s"]:
    """``|D psi| (D psi)^T (m_0 o psi)``; components first.

    Args:
        inverse: displacement of ``psi = phi^-1`` in voxels, periodic.
        momentum: m_0.
        order: of the interpolation, 1 or 3.
    """
    moved = sample_periodic(momentum, inverse, order=order)
    n = inverse.shape[-1]
    jacobian = _jacobian(inverse)
    turned = [sum(jacobian[j][i] * moved[..., j] for j in range(n)) for i in range(n)]
    return jnp.stack(turned, 1) * determinant(jacobian)[:, None]


def scalar_momentum(
    inverse: Float[Array, " b *s n"],
    image: Float[Array, " b *s"],
    density: Float[Array, " b *s"],
    *,
    order: int = 3,
) -> Float[Array, " b n *s"]:
    """``-P_t grad I_t``; components first.

    Args:
        inverse: displacement of ``psi = phi^-1`` in voxels, periodic.
        image: I_0.
        density: P_0, the scalar momentum.
        order: of the interpolation, 1 or 3.
    """
    both = sample_periodic(jnp.stack([image, density], -1), inverse, order=order)
    moved = both[..., 1] * determinant(_jacobian(inverse))
    gradient = [difference(both[..., 0], axis) for axis in range(inverse.shape[-1])]
    return -moved[:, None] * jnp.stack(gradient, 1)


def determinant(jacobian: list[list[Float[Array, " b *s"]]]) -> Float[Array, " b *s"]:
    """Determinant of 2x2 or 3x3 matrices given by their entries."""
    if len(jacobian) == 2:
        (a, b), (c, d) = jacobian
        return a * d - b * c
    (a, b, c), (d, e, f), (g, h, i) = jacobian
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def _jacobian(displacement):
    n = displacement.shape[-1]
    return [
        [difference(displacement[..., i], j) + (1.0 if i == j else 0.0) for j in range(n)]
        for i in range(n)
    ]
