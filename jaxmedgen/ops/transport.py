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
from jaxmedgen.ops.kernels.transport_pallas import (
    characteristic_pallas,
    forward_step_pallas,
    inverse_step_pallas,
)
from jaxmedgen.ops.resample import Backend, resample


def sample_periodic(
    field: Float[Array, " b *s c"],
    displacement: Float[Array, " b *s n"],
    *,
    order: int = 1,
    backend: Backend | str = "auto",
) -> Float[Array, " b *s c"]:
    """``f(x + u(x))`` of a periodic field.

    Args:
        field: any number of channels.
        displacement: in voxels.
        order: 1 linear, 3 cubic B-spline.
        backend: as in `resample`.
    """
    grid = identity_grid(displacement.shape[1:-1]).astype(displacement.dtype)
    return resample(field, grid + displacement, order=order, mode="wrap", backend=backend)


def characteristic(
    velocity: Float[Array, " b *s n"],
    dt: float | int,
    *,
    order: int = 1,
    backend: Backend | str = "auto",
) -> Float[Array, " b *s n"]:
    """Displacement over the time `dt` in a steady velocity, second order: ``dt v(x + dt v / 2)``.

    Args:
        velocity: in voxels a unit of time, of the middle of the step.
        dt: negative for where a particle comes from.
        order: of the interpolation.
        backend: "pallas" is one fused kernel a step on GPU and TPU, linear only; the others are
            those of `resample`.

    Raises:
        ValueError: "pallas" with another order, or a backend that cannot be had.
    """
    if _fused(backend, order):
        return characteristic_pallas(velocity, dt)
    return dt * sample_periodic(velocity, 0.5 * dt * velocity, order=order)


def forward_step(
    forward: Float[Array, " b *s n"],
    velocity: Float[Array, " b *s n"],
    dt: float | int,
    *,
    order: int = 1,
    backend: Backend | str = "auto",
) -> Float[Array, " b *s n"]:
    """Displacement of phi after a step; arguments as in `characteristic`."""
    if _fused(backend, order):
        return forward_step_pallas(forward, velocity, dt)
    step = characteristic(velocity, dt, order=order, backend=backend)
    return forward + sample_periodic(step, forward, order=order, backend=backend)


def inverse_step(
    inverse: Float[Array, " b *s n"],
    velocity: Float[Array, " b *s n"],
    dt: float | int,
    *,
    order: int = 1,
    backend: Backend | str = "auto",
) -> Float[Array, " b *s n"]:
    """Displacement of ``psi = phi^-1`` after a step; arguments as in `characteristic`."""
    if _fused(backend, order):
        return inverse_step_pallas(inverse, velocity, dt)
    step = characteristic(velocity, -dt, order=order, backend=backend)
    return step + sample_periodic(inverse, step, order=order, backend=backend)


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


def _fused(backend: str, order: int) -> bool:
    if backend == "pallas" and order != 1:
        raise ValueError(f"backend 'pallas' interpolates linearly: order {order} needs 'auto'")
    return backend == "pallas"
