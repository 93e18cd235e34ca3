"""Draws from the inverse volume of a Riemannian latent space, ``p(z) ~ 1_S(z) sqrt det G^-1(z)``.

S is what lies within some temperatures of a centroid: far away the density is constant, so that
without S it has no integral and chains that leave the data never come back.

Two samplers: Hamiltonian Monte Carlo, and a random walk along geodesics. The walk's proposal is not
symmetric; ``correction="none"``, the source's acceptance, has another limit (for one centroid and
small steps ``exp(-r^2/T^2)`` in any dimension). With ``"exact"`` it samples p: the Jacobian of Exp
is symmetric, so the ratio of proposals needs no determinant of it.

Source: Chadebec & Allassonniere, "Data augmentation with variational autoencoders and manifold
sampling", 2021 (equation 3, algorithm 1).
"""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxmedgen.ops.hmc import hmc_start, hmc_transition
from jaxmedgen.ops.metric_shooting import MetricShot, shoot_metric
from jaxmedgen.ops.riemannian_metric import (
    NOWHERE,
    Backend,
    CentroidMetric,
    inverse_log_volume,
    inverse_log_volume_gradient,
    inverse_metric,
    nearest_centroid,
)
from jaxmedgen.types import Leaf

Correction = Literal["none", "exact"]
Proposal = Literal["coordinate", "metric"]


class ManifoldDraws(NamedTuple):
    """Positions of chains and how they went.

    Attributes:
        position: where the chains end, ``[b, d]``.
        course: positions after each transition, ``[transitions, b, d]``; None unless asked for.
        acceptance: mean over the transitions, ``[b]``.
        distance: of the end to the nearest centroid, ``[b]``.
    """

    position: Leaf
    course: Leaf
    acceptance: Leaf
    distance: Leaf


def random_centroids(keys: Key[Array, " b"], metric: CentroidMetric) -> Float[Array, "b d"]:
    """A random centroid a chain, none of those that only fill arrays up."""
    counted = jnp.abs(metric.centroids[:, 0]) < NOWHERE / 2
    logits = jnp.where(counted, 0.0, -jnp.inf)
    chosen = jax.vmap(lambda key: jax.random.categorical(key, logits))(keys)
    return metric.centroids[chosen]


def wrapped_normal(
    keys: Key[Array, " b"],
    metric: CentroidMetric,
    z: Float[Array, "b d"],
    deviation: float | int,
    *,
    steps: int = 20,
    backend: Backend | str = "xla",
) -> MetricShot:
    """``Exp_z(v)`` of normal velocities ``v ~ N(0, deviation^2 I)``."""
    noise = jax.vmap(lambda key: jax.random.normal(key, z.shape[1:], z.dtype))(keys)
    return shoot_metric(metric, z, deviation * noise, steps=steps, backend=backend)


def sample_by_hmc(
    keys: Key[Array, " b"],
    metric: CentroidMetric,
    start: Float[Array, "b d"],
    *,
    transitions: int = 100,
    leapfrogs: int = 15,
    step_size: float | int = 0.05,
    radius: float | int = 2.0,
    keep_course: bool = False,
    backend: Backend | str = "xla",
) -> ManifoldDraws:
    """Hamiltonian Monte Carlo with the exact gradient of the volume.

    Args:
        keys: one a chain.
        metric: the metric.
        start: where chains begin, in S; see `random_centroids`.
        transitions: trajectories a chain.
        leapfrogs: steps of a trajectory.
        step_size: of the leapfrog, varied by 20 %.
        radius: of S in temperatures.
        keep_course: whether all positions are returned.
        backend: see `centroid_sums`.

    Raises:
        ValueError: numbers that are not positive.
    """
    _check(transitions=transitions, leapfrogs=leapfrogs, step_size=step_size, radius=radius)
    sizes = jnp.full(start.shape[:1], step_size, start.dtype)

    def energy(z):
        # The barrier of S has no slope: trajectories may pass, ends outside are rejected.
        inside = nearest_centroid(metric, z) < radius * metric.temperature
        barrier = jnp.where(inside, 0.0, jnp.inf).astype(z.dtype)
        return jnp.stack([-_log_volume(metric, z, backend), barrier], -1)

    def transition(state, number):
        here = jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
        state, info = hmc_transition(here, state, energy, sizes, leapfrogs)
        return state, (state.position if keep_course else None, info.acceptance)

    end, (course, acceptance) = jax.lax.scan(
        transition, hmc_start(energy, start), jnp.arange(transitions)
    )
    distance = nearest_centroid(metric, end.position)
    return ManifoldDraws(end.position, course, acceptance.mean(0), distance)


def sample_by_random_walk(
    keys: Key[Array, " b"],
    metric: CentroidMetric,
    start: Float[Array, "b d"],
    *,
    transitions: int = 100,
    deviation: float | int = 0.5,
    proposal: Proposal | str = "coordinate",
    correction: Correction | str = "exact",
    steps: int = 20,
    radius: float | int = 2.0,
    keep_course: bool = False,
    backend: Backend | str = "xla",
) -> ManifoldDraws:
    """A random walk whose steps are geodesics with normal velocities.

    Args:
        keys: one a chain.
        metric: the metric.
        start: where chains begin, in S.
        transitions: steps a chain.
        deviation: of the velocities, sigma.
        proposal: "coordinate": ``v ~ N(0, sigma^2 I)``; "metric": ``v ~ N(0, sigma^2 G^-1(z))``.
        correction: "exact", or the source's "none".
        steps: RK4 steps of a geodesic.
        radius: of S in temperatures.
        keep_course: whether all positions are returned.
        backend: see `centroid_sums`.

    Raises:
        ValueError: unknown names, or numbers that are not positive.
    """
    _check(transitions=transitions, deviation=deviation, steps=steps, radius=radius)
    if proposal not in ("coordinate", "metric"):
        raise ValueError(f"proposal={proposal!r}: choose coordinate or metric")
    if correction not in ("none", "exact"):
        raise ValueError(f"correction={correction!r}: choose none or exact")

    def transition(carry, number):
        z, volume = carry
        split = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, number)))(keys)
        noise = jax.vmap(lambda key: jax.random.normal(key, z.shape[1:], z.dtype))(split[:, 0])
        v = deviation * noise
        if proposal == "metric":
            v = jnp.einsum("bij,bj->bi", jnp.linalg.cholesky(inverse_metric(metric, z)), v)
        shot = shoot_metric(metric, z, v, steps=steps, backend=backend)
        there = inverse_log_volume(metric, shot.position)
        change = there - volume
        if correction == "none":
            log_ratio = change
        elif proposal == "metric":
            log_ratio = 2 * change
        else:
            longer = jnp.sum((shot.velocity - v) * (shot.velocity + v), -1)
            log_ratio = 3 * change - longer / (2 * deviation**2)
        inside = nearest_centroid(metric, shot.position) < radius * metric.temperature
        log_ratio = jnp.where(inside & jnp.isfinite(log_ratio), log_ratio, -jnp.inf)
        threshold = jnp.log(jax.vmap(lambda key: jax.random.uniform(key, (), z.dtype))(split[:, 1]))
        taken = threshold < log_ratio
        z = jnp.where(taken[:, None], shot.position, z)
        volume = jnp.where(taken, there, volume)
        rate = jnp.exp(jnp.minimum(log_ratio, 0.0))
        return (z, volume), (z if keep_course else None, rate)

    first = (start, inverse_log_volume(metric, start))
    (z, _), (course, rate) = jax.lax.scan(transition, first, jnp.arange(transitions))
    return ManifoldDraws(z, course, rate.mean(0), nearest_centroid(metric, z))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _log_volume(metric, z, backend):
    """`inverse_log_volume` whose reverse rule, in z alone, is the closed form."""
    return inverse_log_volume(metric, z)


def _log_volume_forward(metric, z, backend):
    return inverse_log_volume_gradient(metric, z, backend)


def _log_volume_backward(backend, gradient, cotangent):
    return None, cotangent[:, None] * gradient


_log_volume.defvjp(_log_volume_forward, _log_volume_backward)


def _check(**numbers):
    for name, value in numbers.items():
        if value <= 0:
            raise ValueError(f"{name}={value}: give a positive number")
