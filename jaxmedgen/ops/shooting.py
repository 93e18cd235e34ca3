"""Geodesic shooting: from an initial velocity or momentum to the diffeomorphism it leads to.

EPDiff in momentum or velocity form on a periodic grid; the maps follow by semi-Lagrangian steps.
Integrated forms are in `coadjoint.py`, the band-limited form in `flash.py`, landmarks in
`landmark_shooting.py`. A geodesic has a velocity that changes in time: the same initial velocity
leads elsewhere than `fields.exp_velocity`, whose velocity is stationary.

Sources: as in `epdiff.py`; Ashburner and Friston, "Diffeomorphic registration using geodesic
shooting and Gauss-Newton optimisation", 2011; the adjoint equations: Vialard et al., 2012.
"""

import functools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxmedgen.ops.epdiff import momentum_slope, velocity_slope
from jaxmedgen.ops.integrators import STEPS, Integrator, integrator_step
from jaxmedgen.ops.lie_algebra import Backend, ad_planes, ad_star_planes, difference
from jaxmedgen.ops.reversible import checkpointed_scan, reversible_scan
from jaxmedgen.ops.sobolev import Metric, filter_planes, planes
from jaxmedgen.ops.transport import (
    forward_step,
    inverse_step,
    sample_periodic,
    undo_forward_step,
    undo_inverse_step,
)
from jaxmedgen.types import Leaf

Start = Literal["velocity", "momentum"]
Form = Literal["momentum", "velocity"]
Map = Literal["forward", "inverse"]
Gradient = Literal["checkpoint", "stored", "reversible", "adjoint"]


class Shot(NamedTuple):
    """Where a geodesic has arrived at time 1; everything ``[b, *space, n]`` in voxels.

    Attributes:
        velocity: v_1.
        momentum: m_1.
        forward: displacement of phi_1: where the matter at x goes. None if not asked for.
        inverse: displacement of psi_1 = phi_1^-1. ``warp(image, inverse)`` is the moved image.
    """

    velocity: Leaf
    momentum: Leaf
    forward: Leaf = None
    inverse: Leaf = None


class _Settings(NamedTuple):
    metric: Metric
    steps: int
    integrator: str
    form: str
    order: int
    backend: str

    def slope(self, y, velocity=None):
        if self.form == "velocity":
            return velocity_slope(y, self.metric, self.backend)
        return momentum_slope(y, self.metric, velocity, self.backend)

    def velocity(self, y):
        return y if self.form == "velocity" else filter_planes(y, self.metric, 1)


def shoot(
    start: jax.Array,
    metric: Metric,
    *,
    start_is: Start | str = "velocity",
    steps: int = 10,
    integrator: Integrator | str = "rk4",
    form: Form | str = "momentum",
    maps: Sequence[Map | str] = ("inverse",),
    order: int = 1,
    gradient: Gradient | str = "checkpoint",
    padding: int = 0,
    backend: Backend | str = "auto",
) -> Shot:
    """Follows the geodesic from `start` for one unit of time.

    Choose `steps` so that the fastest voxel moves by less than one voxel a step; RK4 with ten keeps
    the energy to 2e-6 for velocities up to three voxels.

    Reverse-mode gradients cost, in units of the forward pass, and keep:

    ==============  =========  ==============================================================
    `gradient`      time       kept for the backward pass
    ==============  =========  ==============================================================
    ``stored``      about 3    everything: fastest while it fits
    ``checkpoint``  about 4    the state of each step (beyond 16 steps: of few); exact
    ``reversible``  about 5    one state, whatever the steps. States are recomputed by stepping
                               back; the transposes are exact. Needs ``rk4`` or
                               ``implicit_midpoint``, which can be taken back to 1e-6
    ``adjoint``     about 4    one state. The continuous adjoint equations by RK4: the gradient
                               of the continuous problem, within 1 % for smooth fields
    ==============  =========  ==============================================================

    Args:
        start: v_0 or m_0, ``[b, *space, n]``, 2D or 3D; periodic.
        metric: `SobolevMetric`, or `GaussianMetric` with a momentum to start from.
        start_is: which of the two `start` is.
        steps: number of time steps.
        integrator: ``euler``, ``rk2``, ``rk4`` or ``implicit_midpoint``.
        form: of the equation: ``momentum`` filters once a slope, ``velocity`` twice and keeps the
            smoother state.
        maps: displacements to compute, of ``forward`` and ``inverse``.
        order: of interpolation in the semi-Lagrangian steps: 1 linear, 3 cubic (sharper, slower).
        gradient: how reverse mode works, see above; ``reversible`` and ``adjoint`` support reverse
            mode once, the other two any derivative.
        padding: voxels of zeros added on every face before and cut off after, where the field of
            view is not periodic: at least as many as the largest displacement. `start` should have
            decayed at the border.
        backend: of ``ad*`` and of the semi-Lagrangian steps, see `lie_algebra.ad` and
            `transport.characteristic`: "pallas" runs them as fused kernels on GPU and TPU (there,
            a voxel may move by one voxel a step). Smoothing is XLA's FFT or matrix products.

    Returns:
        Velocity and momentum at time 1 and the displacements asked for.

    Raises:
        ValueError: for unknown names, wrong shapes, or a combination that does not work.
    """
    _check(start, start_is, steps, integrator, form, maps, order, gradient, padding)
    n = start.ndim - 2
    y = planes(jnp.pad(start, [(0, 0), *((padding, padding),) * n, (0, 0)]))
    if start_is != form:
        y = filter_planes(y, metric, 1 if start_is == "momentum" else -1)
    settings = _Settings(metric, steps, integrator, form, order, backend)
    state = {"y": y, "v": settings.velocity(y)}
    state |= {name: jnp.zeros_like(jnp.moveaxis(y, 1, -1)) for name in maps}
    step, undo = functools.partial(_step, settings), functools.partial(_undo, settings)
    if gradient == "adjoint":
        state = _with_adjoint(settings, tuple(maps), y)
    elif gradient == "reversible":
        state = reversible_scan(step, undo, state, steps)
    elif gradient == "checkpoint":
        state = checkpointed_scan(step, state, steps)
    else:
        state = jax.lax.scan(lambda s, _: (step(s), None), state, None, length=steps)[0]
    y, v = state["y"], state["v"]
    momentum = filter_planes(y, metric, -1) if form == "velocity" else y
    inner = (slice(None), *(slice(padding, s + padding) for s in start.shape[1:-1]))
    fields = [jnp.moveaxis(x, 1, -1) for x in (v, momentum)] + [
        state.get(name) for name in ("forward", "inverse")
    ]
    return Shot(*(None if x is None else x[inner] for x in fields))


def _step(settings, state):
    dt = 1.0 / settings.steps
    y, v = state["y"], state["v"]
    first = settings.slope(y, v)
    y1 = integrator_step(settings.integrator, settings.slope, y, dt, first=first)
    v1 = settings.velocity(y1)
    steps = (
        functools.partial(forward_step, backend=settings.backend),
        functools.partial(inverse_step, backend=settings.backend),
    )
    return {"y": y1, "v": v1} | _move(state, v, v1, dt, settings.order, *steps)


def _undo(settings, state):
    dt = 1.0 / settings.steps
    y1, v1 = state["y"], state["v"]
    first = settings.slope(y1, v1)
    y = integrator_step(settings.integrator, settings.slope, y1, -dt, first=first)
    v = settings.velocity(y)
    steps = undo_forward_step, undo_inverse_step
    return {"y": y, "v": v} | _move(state, v, v1, dt, settings.order, *steps)


def _move(state, v, v1, dt, order, forward, inverse):
    """The maps in `state` after a step from velocity `v` to `v1`."""
    moved = {}
    if "forward" in state or "inverse" in state:
        middle = 0.5 * jnp.moveaxis(v + v1, 1, -1)
    if "forward" in state:
        moved["forward"] = forward(state["forward"], middle, dt, order=order)
    if "inverse" in state:
        moved["inverse"] = inverse(state["inverse"], middle, dt, order=order)
    return moved


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _with_adjoint(settings, maps, y):
    state = {"y": y, "v": settings.velocity(y)}
    state |= {name: jnp.zeros_like(jnp.moveaxis(y, 1, -1)) for name in maps}
    step = functools.partial(_step, settings)
    return jax.lax.scan(lambda s, _: (step(s), None), state, None, length=settings.steps)[0]


def _adjoint_forward(settings, maps, y):
    last = _with_adjoint(settings, maps, y)
    return last, last


def _adjoint_backward(settings, maps, last, cotangent):
    """Integrates ``p = L h^`` and ``v^`` from 1 to 0; the gradient in m_0 is ``v^(0)``.

    ``d_t m = -ad*_v m``, ``d_t p = -ad*_v p``, ``d_t v^ = -K (p + ad*_v^ m) + ad_v v^``.
    """
    metric, backend, m = settings.metric, settings.backend, last["y"]

    def slope(state):
        m, p, w = state
        v = filter_planes(m, metric, 1)
        force = p + ad_star_planes(w, m, backend)
        return (
            -ad_star_planes(v, m, backend),
            -ad_star_planes(v, p, backend),
            ad_planes(v, w, backend) - filter_planes(force, metric, 1),
        )

    p = jnp.zeros_like(m)
    if "inverse" in maps:
        # A change h o phi of phi changes psi by -D psi h.
        c, u = cotangent["inverse"], last["inverse"]
        n = c.shape[-1]
        turned = [
            c[..., i] + sum(difference(u[..., j], i) * c[..., j] for j in range(n))
            for i in range(n)
        ]
        p = p - jnp.stack(turned, 1)
    if "forward" in maps:
        moved = functools.partial(sample_periodic, displacement=last["forward"], order=1)
        _, transpose = jax.vjp(moved, last["forward"])
        p = p + planes(transpose(cotangent["forward"])[0])
    w = cotangent["y"] + filter_planes(cotangent["v"], metric, 1)
    dt = -1.0 / settings.steps
    _, _, w = jax.lax.scan(
        lambda s, _: (integrator_step("rk4", slope, s, dt), None),
        (m, p, w),
        None,
        length=settings.steps,
    )[0]
    return (w,)


_with_adjoint.defvjp(_adjoint_forward, _adjoint_backward)


def _check(start, start_is, steps, integrator, form, maps, order, gradient, padding) -> None:
    if start.ndim not in (4, 5) or start.shape[-1] != start.ndim - 2:
        raise ValueError(
            f"start {start.shape} must be [b, *space, n] with n = 2 or 3 axes of space"
        )
    if steps < 1 or padding < 0:
        raise ValueError(f"steps {steps} must be at least 1 and padding {padding} at least 0")
    for name, value, known in (
        ("start_is", (start_is,), ("velocity", "momentum")),
        ("integrator", (integrator,), STEPS),
        ("form", (form,), ("momentum", "velocity")),
        ("maps", maps, ("forward", "inverse")),
        ("gradient", (gradient,), ("checkpoint", "stored", "reversible", "adjoint")),
        ("order", (order,), (1, 3)),
    ):
        for one in value:
            if one not in known:
                raise ValueError(f"{name} {one!r} is unknown: choose from {tuple(known)}")
    if gradient == "reversible" and integrator not in ("rk4", "implicit_midpoint"):
        raise ValueError(
            f"gradient 'reversible' steps back, which {integrator!r} cannot do accurately: "
            "use 'rk4' or 'implicit_midpoint'"
        )
    if gradient == "adjoint" and form != "momentum":
        raise ValueError(f"gradient 'adjoint' is that of form 'momentum', not {form!r}")
