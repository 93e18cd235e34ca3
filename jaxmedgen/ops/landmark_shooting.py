"""Geodesic shooting of landmarks under a Gaussian kernel.

``k(r) = exp(-|r|^2 / (2 sigma^2))``; ``H = sum_ij p_i . p_j k(q_i - q_j) / 2`` is constant along

    dq_i/dt = sum_j k(q_i - q_j) p_j,    dp_i/dt = -sum_j (p_i . p_j) grad k(q_i - q_j).

Source: Miller, Trouve, Younes, "Geodesic shooting for computational anatomy", 2006, section 5.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.ops.integrators import Integrator, integrator_step


def landmark_hamiltonian(
    points: Float[Array, " b p n"], momenta: Float[Array, " b p n"], sigma: float | int
) -> Float[Array, " b"]:
    """H of each sample; arguments as in `shoot_landmarks`."""
    kernel, _ = _kernel(points, points, sigma)
    return 0.5 * jnp.einsum("bpn,bqn,bpq->b", momenta, momenta, kernel)


def shoot_landmarks(
    points: Float[Array, " b p n"],
    momenta: Float[Array, " b p n"],
    *,
    sigma: float | int,
    steps: int = 10,
    integrator: Integrator | str = "rk4",
    passengers: Float[Array, " b r n"] | None = None,
) -> tuple[Float[Array, " b p n"], Float[Array, " b p n"], Float[Array, " b r n"] | None]:
    """Follows the geodesic from landmarks and their momenta for one unit of time.

    Args:
        points: q_0, in voxels or mm, any dimension.
        momenta: p_0.
        sigma: width of the kernel in the same units.
        steps: number of time steps.
        integrator: as in `shoot`.
        passengers: further points that the flow carries along, such as voxels of a grid.

    Returns:
        Points and momenta at time 1, and the passengers where there were any.

    Raises:
        ValueError: for a width that is not positive, shapes that differ, or no steps.
    """
    if sigma <= 0 or steps < 1:
        raise ValueError(f"sigma {sigma} must be positive and steps {steps} at least 1")
    if points.shape != momenta.shape:
        raise ValueError(f"points {points.shape} and momenta {momenta.shape} must agree")

    def slope(state):
        q, p, riders = state
        kernel, difference = _kernel(q, q, sigma)
        inner = jnp.einsum("bpn,bqn->bpq", p, p)
        force = jnp.einsum("bpq,bpqn->bpn", inner * kernel, difference) / sigma**2
        carried = None if riders is None else _kernel(riders, q, sigma)[0] @ p
        return kernel @ p, force, carried

    def step(state, _):
        return integrator_step(integrator, slope, state, 1.0 / steps), None

    return jax.lax.scan(step, (points, momenta, passengers), None, length=steps)[0]


def _kernel(a, b, sigma):
    difference = a[:, :, None] - b[:, None]
    return jnp.exp(-0.5 * jnp.sum(difference**2, -1) / sigma**2), difference
