"""Geodesics of a Riemannian metric: shooting, the way between two points, and its length.

A geodesic solves Hamilton's equations of ``H = q^T G^-1(z) q / 2``; H is constant along it and
``sqrt(2 H)`` is its length. Error ``max |dH / H|`` for velocities of length 1 in a plane with 30
centroids, T = 0.8, lambda = 1e-3: RK2 with 10 steps 1e-2, RK4 with 20 steps 1e-4.

Sources: Chadebec & Allassonniere, "Data augmentation with variational autoencoders and manifold
sampling", 2021 (shooting by RK2); the discrete energy of paths: Shao, Kumar & Fletcher, "The
Riemannian geometry of deep generative models", 2018.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxmedgen.ops.generalized_leapfrog import generalized_leapfrog
from jaxmedgen.ops.integrators import integrator_step
from jaxmedgen.ops.riemannian_metric import (
    Backend,
    CentroidMetric,
    geodesic_slope,
    inverse_from_factor,
    inverse_metric,
    momentum_of,
    velocity_of,
)
from jaxmedgen.types import Leaf

MetricIntegrator = Literal["rk2", "rk4", "leapfrog"]
INTEGRATORS = ("rk2", "rk4", "leapfrog")
_LEAPFROG_ITERATIONS = 6


class MetricShot(NamedTuple):
    """A geodesic at time 1.

    Attributes:
        position: ``Exp_z(v)``, ``[b, d]``.
        velocity: v_1 there; shooting back with ``-v_1`` returns to z.
        momentum: q_1 there.
        path: positions after each step, ``[steps, b, d]``.
    """

    position: Leaf
    velocity: Leaf
    momentum: Leaf
    path: Leaf


def shoot_metric(
    metric: CentroidMetric,
    z: Float[Array, "b d"],
    v: Float[Array, "b d"],
    *,
    steps: int = 20,
    integrator: MetricIntegrator | str = "rk4",
    backend: Backend | str = "xla",
) -> MetricShot:
    """The exponential map: follows the geodesic from z with velocity v for one unit of time.

    Args:
        metric: the metric.
        z: starts.
        v: velocities there.
        steps: of the integrator.
        integrator: "rk4"; "rk2", the explicit midpoint; "leapfrog", symplectic.
        backend: of the sums over centroids, see `centroid_sums`.

    Raises:
        ValueError: an unknown integrator, or no steps.
    """
    if integrator not in INTEGRATORS:
        raise ValueError(f"integrator={integrator!r}: choose one of {', '.join(INTEGRATORS)}")
    if steps < 1:
        raise ValueError(f"steps={steps}: give at least 1")
    dt = 1.0 / steps

    def slope(state):
        return geodesic_slope(metric, *state, backend)

    def kinetic(z, q):
        velocity, force = slope((z, q))
        return velocity, -force

    def step(state, _):
        if integrator == "leapfrog":
            state = generalized_leapfrog(kinetic, *state, dt, iterations=_LEAPFROG_ITERATIONS)[:2]
        else:
            state = integrator_step(integrator, slope, state, dt)
        return state, state[0]

    (z1, q1), path = jax.lax.scan(step, (z, momentum_of(metric, z, v)), None, length=steps)
    return MetricShot(z1, velocity_of(metric, z1, q1), q1, path)


def path_energy(
    metric: CentroidMetric, path: Float[Array, "p b d"]
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
    """Energy and length of broken lines, the metric taken in the middle of each piece.

    ``E = (p - 1) sum_k D_k^T G(mid_k) D_k / 2``, which for a geodesic is H, and
    ``length = sum_k sqrt(D_k^T G(mid_k) D_k)``.

    Args:
        metric: the metric.
        path: corners.
    """
    pieces = jnp.diff(path, axis=0)
    middle = 0.5 * (path[1:] + path[:-1])
    p, b, d = pieces.shape
    inverse = inverse_metric(metric, middle.reshape(p * b, d))
    metric_there = inverse_from_factor(jnp.linalg.cholesky(inverse)).reshape(p, b, d, d)
    squared = jnp.einsum("pbi,pbij,pbj->pb", pieces, metric_there, pieces)
    # The root of zero has no derivative; pieces of length 0 are those of a point to itself.
    lengths = jnp.sqrt(jnp.maximum(squared, jnp.finfo(path.dtype).tiny))
    return 0.5 * p * squared.sum(0), lengths.sum(0)


def geodesic_between(
    metric: CentroidMetric,
    start: Float[Array, "b d"],
    end: Float[Array, "b d"],
    *,
    pieces: int = 16,
    iterations: int = 100,
) -> Float[Array, "p b d"]:
    """A shortest way between points: the broken line of least energy near the straight one.

    A local minimum: where several ways are about equally long, another one may be shorter.

    Args:
        metric: the metric.
        start: first points.
        end: last points.
        pieces: of the line.
        iterations: of L-BFGS.

    Returns:
        Corners, ends included, ``[pieces + 1, b, d]``.

    Raises:
        ValueError: fewer than two pieces.
    """
    if pieces < 2:
        raise ValueError(f"pieces={pieces}: give at least 2")

    def one(a, b):
        t = jnp.linspace(0, 1, pieces + 1, dtype=a.dtype)[1:-1, None]
        ends = a[None, None], b[None, None]

        def energy(inner):
            return path_energy(metric, jnp.concatenate([ends[0], inner, ends[1]]))[0][0]

        search = optax.scale_by_backtracking_linesearch(15, store_grad=True)
        optimiser = optax.lbfgs(linesearch=search)
        value_and_grad = optax.value_and_grad_from_state(energy)

        def improve(carry, _):
            inner, state = carry
            value, gradient = value_and_grad(inner, state=state)
            updates, state = optimiser.update(
                gradient, state, inner, value=value, grad=gradient, value_fn=energy
            )
            return (optax.apply_updates(inner, updates), state), None

        inner = ((1 - t) * a + t * b)[:, None]
        inner = jax.lax.scan(improve, (inner, optimiser.init(inner)), None, length=iterations)[0][0]
        return jnp.concatenate([ends[0], inner, ends[1]])[:, 0]

    return jax.vmap(one, out_axes=1)(start, end)


def log_map(
    metric: CentroidMetric,
    z: Float[Array, "b d"],
    target: Float[Array, "b d"],
    *,
    first: Float[Array, "b d"] | None = None,
    steps: int = 20,
    iterations: int = 10,
) -> Float[Array, "b d"]:
    """The velocity v with ``Exp_z(v) = target``, by Gauss-Newton steps that never overshoot.

    Args:
        metric: the metric.
        z: starts.
        target: where the geodesics shall arrive.
        first: velocities to begin with; by default that of `geodesic_between`.
        steps: RK4 steps of a shot.
        iterations: of Gauss-Newton.
    """
    if first is None:
        path = geodesic_between(metric, z, target)
        first = (path[1] - path[0]) * (path.shape[0] - 1)

    def missed(v, a, b):
        return shoot_metric(metric, a[None], v[None], steps=steps).position[0] - b

    lengths = jnp.asarray([1.0, 0.5, 0.25, 0.05], z.dtype)

    def improve(v, _):
        gap = jax.vmap(missed)(v, z, target)
        slope = jax.vmap(jax.jacfwd(missed))(v, z, target)
        # A little damping: at conjugate points the Jacobian has no inverse.
        square = jnp.einsum("bki,bkj->bij", slope, slope)
        scale = jnp.trace(square, axis1=1, axis2=2)[:, None, None]
        square = square + 1e-6 * scale * jnp.eye(z.shape[-1], dtype=z.dtype)
        right = jnp.einsum("bki,bk->bi", slope, gap)
        update = -jnp.linalg.solve(square, right[..., None])[..., 0]
        tried = v + lengths[:, None, None] * update
        left = jax.vmap(lambda w: jnp.sum(jax.vmap(missed)(w, z, target) ** 2, -1))(tried)
        best = jnp.argmin(left, 0)
        found = jnp.take_along_axis(tried, best[None, :, None], 0)[0]
        better = jnp.min(left, 0) < jnp.sum(gap**2, -1)
        return jnp.where(better[:, None], found, v), None

    return jax.lax.scan(improve, first, None, length=iterations)[0]
