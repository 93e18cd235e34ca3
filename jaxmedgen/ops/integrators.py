"""One step of an autonomous ordinary differential equation ``dy/dt = f(y)``; y is any tree.

Source: Hairer, Lubich, Wanner, "Geometric Numerical Integration", 2006.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
from jaxtyping import Array, Float

State = Any
Slope = Callable[[State], State]
Integrator = Literal["euler", "rk2", "rk4", "implicit_midpoint"]


def integrator_step(
    name: Integrator | str,
    f: Slope,
    y: State,
    dt: Float[Array, ""] | float | int,
    *,
    first: State | None = None,
) -> State:
    """Advances `y` by the time `dt`.

    ====================  =====  ==================  ================================
    name                  order  evaluations of f    what else
    ====================  =====  ==================  ================================
    ``euler``             1      1
    ``rk2``               2      2                   explicit midpoint
    ``rk4``               4      4                   the default
    ``implicit_midpoint`` 2      12                  time-symmetric, keeps quadratic
                                                     invariants to round-off
    ====================  =====  ==================  ================================

    Args:
        name: of the integrator.
        f: slope.
        y: state, a tree of arrays.
        dt: step, negative to go back.
        first: ``f(y)`` if it is known already.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in STEPS:
        raise ValueError(f"integrator {name!r} is unknown: choose from {', '.join(STEPS)}")
    return STEPS[name](f, y, dt, f(y) if first is None else first)


def _euler(f, y, dt, k1):
    return _add(y, dt, k1)


def _rk2(f, y, dt, k1):
    return _add(y, dt, f(_add(y, dt / 2, k1)))


def _rk4(f, y, dt, k1):
    k2 = f(_add(y, dt / 2, k1))
    k3 = f(_add(y, dt / 2, k2))
    k4 = f(_add(y, dt, k3))
    return jax.tree.map(lambda y, a, b, c, d: y + dt / 6 * (a + 2 * (b + c) + d), y, k1, k2, k3, k4)


def _implicit_midpoint(f, y, dt, k1, iterations=12):
    """``y1 = y + dt f((y + y1) / 2)`` by fixed point; the error shrinks by ``O(dt)`` a round."""

    def improve(slope, _):
        return f(_add(y, dt / 2, slope)), None

    slope, _ = jax.lax.scan(improve, k1, None, length=iterations - 1)
    return _add(y, dt, slope)


def _add(y, dt, slope):
    return jax.tree.map(lambda y, k: y + dt * k, y, slope)


STEPS = {
    "euler": _euler,
    "rk2": _rk2,
    "rk4": _rk4,
    "implicit_midpoint": _implicit_midpoint,
}
