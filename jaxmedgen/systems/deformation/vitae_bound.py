"""The bound that a transformational autoencoder maximises, with its penalties; see `it_vae.py`."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmedgen.losses.disentanglement import covariance_penalty, total_correlation
from jaxmedgen.losses.variational import (
    bernoulli_log_likelihood,
    free_bits,
    gaussian_kl,
    gaussian_log_density,
    gaussian_log_likelihood,
    per_sample,
)
from jaxmedgen.nets.vitae import Likelihood, Posterior, Reconstruction
from jaxmedgen.ops.field_measures import jacobian_determinant
from jaxmedgen.ops.fields import identity_grid
from jaxmedgen.ops.sobolev import SobolevMetric, energy
from jaxmedgen.ops.transformers import Transformer


@dataclasses.dataclass(frozen=True)
class Criterion:
    """What is maximised.

    Attributes:
        bound: ``elbo`` (closed-form KL) or ``iwae`` (importance weights).
        samples: draws from the posterior a training image.
        beta: weight of the KL terms; 0 makes a plain autoencoder.
        warm_up: steps over which the KL weight, and the deformable part of the map, rise from 0.
        fixed_deviation: standard deviation of the output before the end of the warm-up.
        learned_variance: whether the decoder's variance is used after it.
        free_bits: nats a dimension of z_P below which its KL has no gradient.
        total_correlation: further weight of the total correlation (beta-TCVAE: beta - 1).
        covariance: DIP-VAE-II's weights of the off-diagonal and diagonal covariance.
        smoothness: weight of the energy ``<L v, v> / 2`` of the velocity.
        folding: weight of ``mean(relu(-det D phi))``.
        population: training samples, for the total correlation.
    """

    bound: Literal["elbo", "iwae"] = "elbo"
    samples: int = 1
    beta: float = 1.0
    warm_up: int = 0
    fixed_deviation: float = 0.02
    learned_variance: bool = True
    free_bits: float = 0.0
    total_correlation: float = 0.0
    covariance: tuple[float, float] = (0.0, 0.0)
    smoothness: float = 0.0
    folding: float = 0.0
    population: int = 1

    def __post_init__(self) -> None:
        if self.bound not in ("elbo", "iwae"):
            raise ValueError(f"bound='{self.bound}': choose elbo or iwae")
        if self.samples < 1 or self.warm_up < 0:
            raise ValueError(
                f"samples={self.samples} must be at least 1, warm_up={self.warm_up} at least 0"
            )


def criterion(
    settings: Mapping[str, Any],
    population: int,
    transformer: Transformer | None,
    shape: tuple[int, ...],
) -> Criterion:
    """The criterion of a configuration's group of that name.

    Raises:
        ValueError: a penalty on maps that the model does not have.
    """
    values = dict(settings)
    made = Criterion(population=population, **values | {"covariance": tuple(values["covariance"])})
    if made.folding and transformer is None:
        raise ValueError("criterion.folding needs a transformer: set it to 0")
    velocity = None
    if transformer is not None:
        velocity = transformer.velocity(jnp.zeros((1, transformer.size(shape))), shape)
    if made.smoothness and velocity is None:
        raise ValueError(
            f"criterion.smoothness={made.smoothness} needs a velocity: choose a transformer with "
            "svf or geodesic, or set it to 0"
        )
    return made


def posteriors(found: Reconstruction) -> dict[str, tuple[Array, Posterior]]:
    """Draw and posterior of those latent vectors that the model has."""
    both = {
        "perspective": (found.z_perspective, found.perspective),
        "appearance": (found.z_appearance, found.appearance),
    }
    return {name: (z, posterior) for name, (z, posterior) in both.items() if z is not None}


def divergences(found: Reconstruction) -> dict[str, Float[Array, " b d"]]:
    """KL from the prior of each dimension of the latent vectors."""
    return {n: gaussian_kl(p.mean, p.log_variance) for n, (_, p) in posteriors(found).items()}


def log_likelihood(
    criterion: Criterion,
    kind: Likelihood,
    image: Float[Array, " b *s c"],
    found: Reconstruction,
    step: Int[Array, ""] | int,
) -> Float[Array, " b"]:
    """``log p(x|z)`` of each image; `step` decides whether the variance is the learned one."""
    if kind == "bernoulli":
        return per_sample(bernoulli_log_likelihood(image, found.mean))
    variance = jnp.full_like(found.variance, criterion.fixed_deviation**2)
    if criterion.learned_variance:
        variance = jnp.where(step < criterion.warm_up, variance, found.variance)
    return per_sample(gaussian_log_likelihood(image, found.mean, variance))


def log_weight(
    likelihood: Float[Array, " b"], found: Reconstruction, weight: Float[Array, ""] | float | int
) -> Float[Array, " b"]:
    """``log p(x|z) + w (log p(z) - log q(z|x))`` of one draw."""
    for z, posterior in posteriors(found).values():
        own = gaussian_log_density(z, posterior.mean, posterior.log_variance)
        likelihood = likelihood + weight * per_sample(gaussian_log_density(z) - own)
    return likelihood


def weighted_divergence(criterion: Criterion, found: Reconstruction) -> Float[Array, " b"]:
    """KL of all latent vectors, with free bits for the perspective."""
    parts = divergences(found)
    floor = {"perspective": criterion.free_bits}
    return sum(free_bits(kl, floor.get(name, 0)) for name, kl in parts.items())


def penalties(
    criterion: Criterion,
    transformer: Transformer | None,
    found: Reconstruction,
    rise: Float[Array, ""],
) -> Float[Array, ""]:
    """What is added to the negative bound; `rise` is the warm-up's share of the KL weight."""
    total = jnp.float32(0.0)
    drawn = posteriors(found).values()
    z = jnp.concatenate([z for z, _ in drawn], -1)
    mean = jnp.concatenate([p.mean for _, p in drawn], -1)
    spread = jnp.concatenate([p.log_variance for _, p in drawn], -1)
    if criterion.total_correlation:
        excess = total_correlation(z, mean, spread, criterion.population)
        total = total + rise * criterion.total_correlation * excess
    if any(criterion.covariance):
        off, diagonal = criterion.covariance
        penalty = covariance_penalty(mean, spread, off_diagonal=off, diagonal=diagonal)
        total = total + rise * penalty
    shape = found.mean.shape[1:-1]
    if criterion.smoothness:
        velocity = transformer.velocity(found.parameters, shape)
        total = total + criterion.smoothness * energy(velocity, SobolevMetric()).mean()
    if criterion.folding:
        field = transformer.coordinates(found.parameters, shape) - identity_grid(shape)
        folded = jax.nn.relu(-jacobian_determinant(field))
        total = total + criterion.folding * folded.mean()
    return total
