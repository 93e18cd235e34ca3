"""How models of `rhvae` draw new latents: prior, normalising flow, or the learned geometry."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxmedgen.nets.coupling_flow import CouplingFlow
from jaxmedgen.ops.manifold_sampling import (
    random_centroids,
    sample_by_hmc,
    sample_by_random_walk,
    wrapped_normal,
)
from jaxmedgen.ops.riemannian_metric import CentroidMetric, nearest_centroid
from jaxmedgen.types import Leaf, Variables

PRIORS = ("normal", "density", "manifold", "walk", "wrapped")


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Settings.

    Attributes:
        prior: "normal": N(0, I); "density": a normalising flow of the training latents;
            "manifold": Hamiltonian Monte Carlo on the inverse volume; "walk": the Riemannian random
            walk; "wrapped": one geodesic of normal velocity from a random centroid.
        transitions: of a chain.
        leapfrogs: of a Hamiltonian trajectory.
        step_size: of the leapfrog.
        radius: of the set of latents that may be drawn, in temperatures around centroids.
        deviation: of the walk's and the wrapped normal's velocities.
        correction: of the walk's acceptance, "exact" or the source's "none".
    """

    prior: str = "manifold"
    transitions: int = 100
    leapfrogs: int = 15
    step_size: float | int = 0.05
    radius: float | int = 2.0
    deviation: float | int = 0.7
    correction: str = "exact"

    def __post_init__(self) -> None:
        if self.prior not in PRIORS:
            raise ValueError(f"sampling.prior='{self.prior}': choose one of {', '.join(PRIORS)}")


class Chains(NamedTuple):
    """New latents of every kind and how they came about.

    Attributes:
        position: ``[k, n, d]``.
        distance: to the nearest centroid, ``[k, n]``.
        acceptance: mean over a chain's transitions, ``[k, n]``; None without chains.
    """

    position: Leaf
    distance: Leaf
    acceptance: Leaf = None


def draw_chains(
    sampling: Sampling,
    keys: Key[Array, "k n"],
    metric: CentroidMetric,
    density: CouplingFlow | None = None,
    variables: Variables | None = None,
    noise: Float[Array, "k n d"] | None = None,
) -> Chains:
    """New latents of every kind.

    Args:
        sampling: how.
        keys: one a latent.
        metric: of every kind, with a leading axis.
        density: the normalising flow.
        variables: of every kind's flow.
        noise: standard normal numbers instead of those of the keys, where a draw is made of them.

    Raises:
        ValueError: a density is asked for and there is none.
    """
    distances = jax.vmap(nearest_centroid)
    if sampling.prior in ("normal", "density"):
        if noise is None:
            d = metric.centroids.shape[-1]
            noise = jax.vmap(jax.vmap(lambda key: jax.random.normal(key, (d,))))(keys)
        if sampling.prior == "density":
            if density is None:
                raise ValueError(
                    "sampling.prior='density' needs a model that was trained with one: "
                    "model.density_layers > 0 (arm=flow)"
                )
            noise = jax.vmap(lambda v, u: density.apply(v, u, method="inverse"))(variables, noise)
        return Chains(noise, distances(metric, noise))

    def one(keys, metric):
        start = random_centroids(jax.vmap(lambda k: jax.random.fold_in(k, 1 << 30))(keys), metric)
        shared = {"transitions": sampling.transitions, "radius": sampling.radius}
        if sampling.prior == "wrapped":
            shot = wrapped_normal(keys, metric, start, sampling.deviation).position
            return jnp.where(jnp.isfinite(shot), shot, start), None
        if sampling.prior == "manifold":
            made = sample_by_hmc(
                keys,
                metric,
                start,
                leapfrogs=sampling.leapfrogs,
                step_size=sampling.step_size,
                **shared,
            )
        else:
            made = sample_by_random_walk(
                keys,
                metric,
                start,
                deviation=sampling.deviation,
                correction=sampling.correction,
                **shared,
            )
        return made.position, made.acceptance

    position, acceptance = jax.vmap(one)(keys, metric)
    return Chains(position, distances(metric, position), acceptance)
