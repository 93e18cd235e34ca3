"""Semi-Lagrangian steps of the forward and the inverse map of a flow, and how to take them back.

Maps are displacements on a periodic grid, never absolute positions. With the midpoint velocity v,

- forward: ``phi <- (id + w+) o phi``, ``w+ = dt v o (id + dt v / 2)``;
- inverse: ``psi <- psi o (id + w-)``, ``w- = -dt v o (id - dt v / 2)``.

Both are of second order in time. A forward step interpolates the smooth velocity at each particle
and can be taken back to round-off. An inverse step interpolates psi itself; linear interpolation
blurs it a little at every step.

Source: Staniforth and Cote, "Semi-Lagrangian integration schemes for atmospheric models", 1991.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.ops.fields import identity_grid
from jaxmedgen.ops.resample import resample


def sample_periodic(
    field: Float[Array, " b *s c"], displacement: Float[Array, " b *s n"], *, order: int = 1
) -> Float[Array, " b *s c"]:
    """``f(x + u(x))`` of a periodic field.

    Args:
        field: any number of channels.
        displacement: in voxels.
        order: 1 linear, 3 cubic B-spline.
    """
    grid = identity_grid(displacement.shape[1:-1]).astype(displacement.dtype)
    return resample(field, grid + displacement, order=order, mode="wrap")


def characteristic(
    velocity: Float[Array, " b *s n"], dt: float | int, *, order: int = 1
) -> Float[Array, " b *s n"]:
    """Displacement over the time `dt` in a steady velocity, second order: ``dt v(x + dt v / 2)``.

    Args:
        velocity: in voxels a unit of time, of the middle of the step.
        dt: negative for where a particle comes from.
        order: of the interpolation.
    """
    return dt * sample_periodic(velocity, 0.5 * dt * velocity, order=order)


def forward_step(
    forward: Float[Array, " b *s n"],
    velocity: Float[Array, " b *s n"],
    dt: float | int,
    *,
    order: int = 1,
) -> Float[Array, " b *s n"]:
    """Displacement of phi after a step; arguments as in `characteristic`."""
    step = characteristic(velocity, dt, order=order)
    return forward + sample_periodic(step, forward, order=order)


def inverse_step(
    inverse: Float[Array, " b *s n"],
    velocity: Float[Array, " b *s n"],
    dt: float | int,
    *,
    order: int = 1,
) -> Float[Array, " b *s n"]:
    """Displacement of ``psi = phi^-1`` after a step; arguments as in `characteristic`."""
    step = characteristic(velocity, -dt, order=order)
    return step + sample_periodic(inverse, step, order=order)


def undo_forward_step(
    forward: Float[Array, " b *s n"],
    velocity: Float[Array, " b *s n"],
    dt: float | int,
    *,
    order: int = 1,
    iterations: int = 6,
) -> Float[Array, " b *s n"]:
    """Displacement before `forward_step`, by fixed point: ``u = u' - w+(x + u)``.

    Args:
        forward: displacement after the step.
        velocity: of the middle of the step.
        dt: of the step.
        order: of the interpolation.
        iterations: each gains a factor ``dt |Dv|``.
    """
    step = characteristic(velocity, dt, order=order)

    def improve(_, before):
        return forward - sample_periodic(step, before, order=order)

    return jax.lax.fori_loop(0, iterations, improve, forward)


def undo_inverse_step(
    inverse: Float[Array, " b *s n"],
    velocity: Float[Array, " b *s n"],
    dt: float | int,
    *,
    order: int = 1,
    corrections: int = 2,
) -> Float[Array, " b *s n"]:
    """Displacement before `inverse_step`, up to what its interpolation has erased.

    ``u = B (u' - w-)`` with B the interpolation along the opposite characteristic, then defect
    corrections with B. Linear steps blur a wave of angle theta a voxel by up to
    ``1 - cos(theta / 2)``; what stays unrecovered is ``sin(theta / 2)^(2 corrections + 2)``.

    Args:
        inverse: displacement after the step.
        velocity: of the middle of the step.
        dt: of the step.
        order: of the interpolation.
        corrections: two gathers each.
    """
    step = characteristic(velocity, -dt, order=order)
    back = characteristic(velocity, dt, order=order)
    target = inverse - step

    def correct(_, before):
        defect = target - sample_periodic(before, step, order=order)
        return before + sample_periodic(defect, back, order=order)

    # From zero, the first round is B alone.
    return jax.lax.fori_loop(0, corrections + 1, correct, jnp.zeros_like(inverse))
