"""Shooting in integrated form: only the inverse map is a state, the momentum follows from it.

``v = K m(psi)``, ``psi`` transported by explicit midpoint steps; `epdiff.coadjoint_momentum` and
`epdiff.scalar_momentum` give m. Neither a derivative of the momentum nor its transport is needed,
so the momentum may be rough.

Source: Younes et al., "Evolutions equations in computational anatomy", 2009.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.ops.epdiff import coadjoint_momentum, scalar_momentum
from jaxmedgen.ops.reversible import checkpointed_scan
from jaxmedgen.ops.shooting import Shot
from jaxmedgen.ops.sobolev import Metric, filter_planes
from jaxmedgen.ops.transport import forward_step, inverse_step


def shoot_coadjoint(
    momentum: Float[Array, " b *s n"], metric: Metric, *, steps: int = 10, order: int = 3
) -> Shot:
    """Follows the geodesic from a vector momentum; the same path as `shoot`.

    Args:
        momentum: m_0, 2D or 3D, periodic.
        metric: gives K.
        steps: of the midpoint rule, two filters each.
        order: of all interpolations, 1 linear or 3 cubic.

    Returns:
        Velocity and momentum at time 1, both displacements.
    """
    return _shoot(
        lambda inverse: coadjoint_momentum(inverse, momentum, order=order),
        jnp.zeros_like(momentum),
        metric,
        steps,
        order,
    )


def shoot_image(
    image: Float[Array, " b *s"],
    density: Float[Array, " b ..."],
    metric: Metric,
    *,
    steps: int = 10,
    order: int = 3,
) -> Shot:
    """Follows the geodesic of an image from its scalar momentum: ``m_0 = -P_0 grad I_0``.

    Args:
        image: I_0, 2D or 3D, periodic.
        density: P_0.
        metric: gives K.
        steps: of the midpoint rule, two filters each.
        order: of all interpolations, 1 linear or 3 cubic.

    Returns:
        Velocity and momentum at time 1, both displacements; ``warp(image, inverse)`` is I_1.

    Raises:
        ValueError: if image and density differ in shape.
    """
    if image.shape != density.shape:
        raise ValueError(f"image {image.shape} and density {density.shape} must have one shape")
    return _shoot(
        lambda inverse: scalar_momentum(inverse, image, density, order=order),
        jnp.zeros((*image.shape, image.ndim - 1), image.dtype),
        metric,
        steps,
        order,
    )


def _shoot(momentum: Callable, still: jax.Array, metric: Metric, steps: int, order: int) -> Shot:
    if steps < 1:
        raise ValueError(f"steps {steps} must be at least 1")
    dt = 1.0 / steps

    def velocity(inverse):
        return jnp.moveaxis(filter_planes(momentum(inverse), metric, 1), 1, -1)

    def step(maps):
        forward, inverse = maps
        half = inverse_step(inverse, velocity(inverse), dt / 2, order=order)
        middle = velocity(half)
        return (
            forward_step(forward, middle, dt, order=order),
            inverse_step(inverse, middle, dt, order=order),
        )

    forward, inverse = checkpointed_scan(step, (still, still), steps)
    m = momentum(inverse)
    v = filter_planes(m, metric, 1)
    return Shot(jnp.moveaxis(v, 1, -1), jnp.moveaxis(m, 1, -1), forward, inverse)
