"""Bounds that the models of `rhvae` maximise: VAE, importance-weighted, Hamiltonian, Riemannian.

For z_0 ~ q(z|x), momentum q_0 = a factor of G(z_0) times g / sqrt b_0, g ~ N(0, I), and K steps of
the tempered flow, the exact bound of each sample is

    log p(x|z_K) + log p(z_K) - q_K^T G^-1(z_K) q_K / 2 - log sqrt det G(z_K)
        + log sqrt det G(z_0) + |g|^2 / 2 - log q(z_0|x).

The reference objective leaves out ``log sqrt det G(z_0)`` and draws q_0 with the sample's own
factor L in place of a factor of G(z_0). It bounds nothing, but it fixes the metric's scale: with it
the eigenvalues of G^-1 at the centroids settle near 1, with the exact bound they fall to lambda.

Source: Chadebec, Mantoux & Allassonniere, "Geometry-aware Hamiltonian variational auto-encoder",
2020, and its code (the reference objective).
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.losses.variational import (
    gaussian_kl,
    gaussian_log_density,
    importance_weighted_bound,
    log_importance_weight,
)
from jaxmedgen.nets.variational import sample_gaussian
from jaxmedgen.ops.riemannian_flow import riemannian_flow
from jaxmedgen.ops.riemannian_metric import (
    CentroidMetric,
    draw_momentum,
    inverse_log_volume,
    kinetic_energy,
)

GEOMETRIES = ("none", "flat", "learned")
OBJECTIVES = ("reference", "exact")


@dataclasses.dataclass(frozen=True)
class Bound:
    """What is maximised.

    Attributes:
        geometry: "none": a plain VAE; "flat": Hamiltonian with G = I; "learned": Riemannian.
        objective: of the learned geometry, "reference" or "exact".
        samples: importance samples of a plain VAE; 1 is the evidence lower bound.
        beta: weight of the plain VAE's divergence.
        steps: K.
        step_size: of the leapfrog.
        tempered: sqrt b_0.
        iterations: fixed points of the leapfrog's implicit equations.
        frozen: the leapfrog of published code, see `generalized_leapfrog`.
    """

    geometry: str = "learned"
    objective: str = "reference"
    samples: int = 1
    beta: float | int = 1.0
    steps: int = 3
    step_size: float | int = 0.01
    tempered: float | int = 0.3
    iterations: int = 3
    frozen: bool = False

    def __post_init__(self) -> None:
        for name, known in (("geometry", GEOMETRIES), ("objective", OBJECTIVES)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"criterion.{name}='{getattr(self, name)}': choose one of {', '.join(known)}"
                )
        if self.samples < 1 or (self.samples > 1 and self.geometry != "none"):
            raise ValueError(
                f"criterion.samples={self.samples}: give 1, or more with criterion.geometry=none"
            )
        if self.beta != 1 and (self.geometry != "none" or self.samples > 1):
            raise ValueError(
                f"criterion.beta={self.beta} weighs the divergence of a plain VAE: set "
                "criterion.geometry=none and criterion.samples=1"
            )

    @property
    def noises(self) -> int:
        """Vectors of standard normal noise a sample."""
        return self.samples if self.geometry == "none" else 2


def bound_of(
    bound: Bound,
    log_likelihood: Callable[[jax.Array], jax.Array],
    mean: Float[Array, "b d"],
    log_variance: Float[Array, "b d"],
    noise: Float[Array, "m b d"],
    factors: Float[Array, "b d d"] | None = None,
    metric: CentroidMetric | None = None,
) -> Float[Array, " b"]:
    """The bound of each sample, in nats.

    Args:
        bound: which.
        log_likelihood: ``z [b, d] -> log p(x|z) [b]``.
        mean: of the posterior.
        log_variance: of the posterior.
        noise: standard normal, ``bound.noises`` of each sample.
        factors: L of the samples, for the learned geometry.
        metric: of the batch, for both geometries.
    """
    if bound.geometry != "none":
        return _hamiltonian(bound, log_likelihood, mean, log_variance, noise, factors, metric)
    if bound.samples == 1:
        z = sample_gaussian(noise[0], mean, log_variance)
        return log_likelihood(z) - bound.beta * gaussian_kl(mean, log_variance).sum(-1)

    def weight(each):
        z = sample_gaussian(each, mean, log_variance)
        return log_importance_weight(log_likelihood(z), z, (mean, log_variance))

    return importance_weighted_bound(jax.lax.map(weight, noise))


def _hamiltonian(bound, log_likelihood, mean, log_variance, noise, factors, metric):
    z0 = sample_gaussian(noise[0], mean, log_variance)
    if bound.geometry == "flat":
        momentum = noise[1]
    elif bound.objective == "reference":
        momentum = jnp.einsum("bij,bj->bi", factors, noise[1])
    else:
        momentum = draw_momentum(metric, z0, noise[1])

    def joint(z):
        return log_likelihood(z) + gaussian_log_density(z).sum(-1)

    def potential(z):
        return -jax.grad(lambda z: joint(z).sum())(z)

    z, q = riemannian_flow(
        metric,
        potential,
        z0,
        momentum / bound.tempered,
        steps=bound.steps,
        step_size=bound.step_size,
        tempered=bound.tempered,
        iterations=bound.iterations,
        frozen=bound.frozen,
    )
    after = joint(z) - kinetic_energy(metric, z, q) + inverse_log_volume(metric, z)
    before = gaussian_log_density(z0, mean, log_variance).sum(-1) - 0.5 * (noise[1] ** 2).sum(-1)
    if bound.objective == "exact":
        before = before + inverse_log_volume(metric, z0)
    return after - before
