"""Leapfrog for Hamiltonians that do not separate, ``H(z, q) = U(z) + K(z, q)``.

    q' = q - dt/2 H_z(z, q')                    (implicit)
    z1 = z + dt/2 (K_q(z, q') + K_q(z1, q'))    (implicit)
    q1 = q' - dt/2 H_z(z1, q')

Symplectic, reversible, second order. Implicit equations are solved by fixed points, each of which
shrinks the error by O(dt).

Source: Leimkuhler & Reich, "Simulating Hamiltonian dynamics", 2004, section 5.3; Girolami &
Calderhead, "Riemann manifold Langevin and Hamiltonian Monte Carlo methods", 2011.
"""

from collections.abc import Callable

import jax
from jaxtyping import Array, Float

KineticSlopes = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""``(z, q) -> (K_q, K_z)``, both shaped like z."""


def generalized_leapfrog(
    kinetic: KineticSlopes,
    z: Float[Array, "b d"],
    q: Float[Array, "b d"],
    dt: Float[Array, ""] | float | int,
    *,
    iterations: int = 3,
    potential: Callable[[jax.Array], jax.Array] | None = None,
    here: Float[Array, "b d"] | None = None,
    frozen: bool = False,
) -> tuple[Float[Array, "b d"], Float[Array, "b d"], Float[Array, "b d"] | None]:
    """One step.

    Args:
        kinetic: K_q and K_z.
        z: positions.
        q: momenta.
        dt: step.
        iterations: fixed points of each implicit equation.
        potential: U_z; none by default.
        here: ``U_z(z)`` if it is known from the step before.
        frozen: takes ``K_q(z, q')`` for ``K_q(z1, q')``, which makes the position's step explicit
            and the whole neither reversible nor volume-preserving: as published code does.

    Returns:
        Position, momentum and ``U_z`` at the new position.

    Raises:
        ValueError: no iterations.
    """
    if iterations < 1:
        raise ValueError(f"iterations={iterations}: give at least 1")
    if potential is not None and here is None:
        here = potential(z)

    def force(slope, static):
        return slope if static is None else slope + static

    half = q
    for _ in range(iterations):
        half = q - 0.5 * dt * force(kinetic(z, half)[1], here)
    first = kinetic(z, half)[0]
    moved = z + dt * first
    if not frozen:
        moved = z
        for _ in range(iterations):
            moved = z + 0.5 * dt * (first + kinetic(moved, half)[0])
    there = None if potential is None else potential(moved)
    return moved, half - 0.5 * dt * force(kinetic(moved, half)[1], there), there
