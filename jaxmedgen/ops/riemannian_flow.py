"""Tempered Hamiltonian flow on a Riemannian latent space: the posterior of a Riemannian VAE.

    H_x(z, q) = U_x(z) + log sqrt det G(z) + q^T G^-1(z) q / 2,   U_x = -log p(x|z) - log p(z).

K steps of the generalised leapfrog; after step k momenta are multiplied by
``sqrt b_{k-1} / sqrt b_k``, ``1 / sqrt b_k = (1 - 1/sqrt b_0) k^2/K^2 + 1/sqrt b_0``, so that they
start large and end at their own scale. A step preserves volume; tempering's share of the density
cancels with that of the first momentum.

Source: Chadebec, Mantoux & Allassonniere, "Geometry-aware Hamiltonian variational auto-encoder",
2020; Caterini, Doucet & Sejdinovic, "Hamiltonian variational auto-encoder", 2018 (tempering).
"""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.ops.generalized_leapfrog import generalized_leapfrog
from jaxmedgen.ops.riemannian_metric import (
    CentroidMetric,
    geodesic_slope,
    inverse_log_volume_gradient,
)


def tempering(steps: int, start: float | int) -> tuple[float, ...]:
    """``sqrt b_0, ..., sqrt b_K``, rising from `start` to 1.

    Raises:
        ValueError: a start outside (0, 1], or no steps.
    """
    if not 0 < start <= 1 or steps < 1:
        raise ValueError(f"tempering from {start} in {steps} steps: give (0, 1] and at least 1")
    rise = 1 - 1 / start
    return tuple(1 / (rise * (k / steps) ** 2 + 1 / start) for k in range(steps + 1))


def riemannian_flow(
    metric: CentroidMetric,
    potential: Callable[[jax.Array], jax.Array],
    z: Float[Array, "b d"],
    q: Float[Array, "b d"],
    *,
    steps: int = 3,
    step_size: float | int = 0.01,
    tempered: float | int = 1.0,
    iterations: int = 3,
    frozen: bool = False,
) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
    """Positions and momenta after the flow; gradients pass through all of it.

    Args:
        metric: the metric.
        potential: gradient of U_x at positions ``[b, d]``.
        z: positions.
        q: momenta, already divided by `tempered`.
        steps: K.
        step_size: of the leapfrog.
        tempered: ``sqrt b_0``; 1 for none.
        iterations: fixed points of the implicit equations.
        frozen: as in `generalized_leapfrog`.
    """
    roots = tempering(steps, tempered)

    def whole_potential(z):
        # log sqrt det G = -log sqrt det G^-1
        return potential(z) - inverse_log_volume_gradient(metric, z)[1]

    def kinetic(z, q):
        velocity, force = geodesic_slope(metric, z, q)
        return velocity, -force

    def step(state, ratio):
        z, q, here = state
        z, q, here = generalized_leapfrog(
            kinetic,
            z,
            q,
            step_size,
            iterations=iterations,
            potential=whole_potential,
            here=here,
            frozen=frozen,
        )
        return (z, ratio * q, here), None

    ratios = jnp.asarray([a / b for a, b in itertools.pairwise(roots)], z.dtype)
    (z, q, _), _ = jax.lax.scan(step, (z, q, whole_potential(z)), ratios)
    return z, q
