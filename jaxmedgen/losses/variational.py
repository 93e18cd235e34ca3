"""The evidence lower bound and its parts: densities, Kullback-Leibler terms, importance weights.

All results are per element, ``[b, d]`` of a latent vector or ``[b, *s, c]`` of an image, in nats;
`per_sample` sums them. A Gaussian is a mean and a log-variance.

``log p(x) >= E_q[log p(x|z)] - KL(q(z|x) || p(z))`` (Kingma & Welling, "Auto-encoding variational
Bayes", 2014); with S samples ``log (1/S) sum_s p(x|z_s) p(z_s) / q(z_s|x)``, which approaches
``log p(x)`` (Burda, Grosse & Salakhutdinov, "Importance weighted autoencoders", 2016); ``beta``
weights the second term (Higgins et al., "beta-VAE", 2017). Free bits: Kingma et al., "Improved
variational inference with inverse autoregressive flow", 2016.
"""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from jaxmedgen.ops.collectives import all_mean

CLIP = 1e-5
"""Distance of a Bernoulli probability from 0 and 1."""

VARIANCE_FLOOR = 1e-5
"""Added to a variance that may be zero, as a learned one warped beyond the border."""


def gaussian_log_density(
    x: Float[Array, "..."],
    mean: Float[Array, "..."] | float | int = 0.0,
    log_variance: Float[Array, "..."] | float | int = 0.0,
) -> Float[Array, "..."]:
    """``log N(x; mean, exp(log_variance))`` of each element; shapes broadcast."""
    return -0.5 * (math.log(2 * math.pi) + log_variance + (x - mean) ** 2 * jnp.exp(-log_variance))


def gaussian_kl(
    mean: Float[Array, " *s"],
    log_variance: Float[Array, " *s"],
    prior_mean: Float[Array, " *s"] | float | int = 0.0,
    prior_log_variance: Float[Array, " *s"] | float | int = 0.0,
) -> Float[Array, " *s"]:
    """``KL(N(mean, variance) || N(prior))`` of each element, in closed form.

    ``(s2/p2 + (m - n)^2/p2 - 1 - log(s2/p2)) / 2`` with variances s2, p2 and means m, n.

    Args:
        mean: of the posterior.
        log_variance: of the posterior.
        prior_mean: of the prior, 0 by default.
        prior_log_variance: of the prior, 0 (variance 1) by default.
    """
    ratio = log_variance - prior_log_variance
    # expm1(r) - r instead of exp(r) - 1 - r: near the prior the terms cancel.
    return 0.5 * (
        jnp.expm1(ratio) - ratio + (mean - prior_mean) ** 2 * jnp.exp(-prior_log_variance)
    )


def full_gaussian_kl(
    mean: Float[Array, "*b d"],
    covariance: Float[Array, "*b d d"],
    prior_mean: Float[Array, "*b d"],
    prior_covariance: Float[Array, "*b d d"],
) -> Float[Array, "*b"]:
    """``KL(N(m1, S1) || N(m2, S2))`` with full covariances, in closed form, in nats.

    ``[tr(S2^-1 S1) + (m2 - m1)^T S2^-1 (m2 - m1) - d + log(det S2 / det S1)] / 2``, by Cholesky
    factors.

    Args:
        mean: m1.
        covariance: S1, positive definite.
        prior_mean: m2.
        prior_covariance: S2, positive definite.
    """
    lower, prior = jnp.linalg.cholesky(covariance), jnp.linalg.cholesky(prior_covariance)
    # [L1 | m2 - m1] solved at once: both terms are squared norms of L2^-1 times these columns.
    columns = jnp.concatenate([lower, (prior_mean - mean)[..., None]], -1)
    solved = jax.scipy.linalg.solve_triangular(prior, columns, lower=True)
    logs = [jnp.log(jnp.diagonal(m, axis1=-2, axis2=-1)).sum(-1) for m in (prior, lower)]
    return 0.5 * ((solved**2).sum((-2, -1)) - mean.shape[-1]) + logs[0] - logs[1]


def bernoulli_log_likelihood(
    x: Float[Array, " *s"], probability: Float[Array, " *s"]
) -> Float[Array, " *s"]:
    """``x log p + (1 - x) log (1 - p)`` of each element, p kept `CLIP` away from 0 and 1.

    Args:
        x: values in [0, 1]; between them it is the usual cross-entropy, not a density.
        probability: the decoder's mean.
    """
    p = jnp.clip(probability, CLIP, 1 - CLIP)
    return x * jnp.log(p) + (1 - x) * jnp.log1p(-p)


def gaussian_log_likelihood(
    x: Float[Array, " *s"], mean: Float[Array, " *s"], variance: Float[Array, " *s"] | float | int
) -> Float[Array, " *s"]:
    """``log N(x; mean, variance + VARIANCE_FLOOR)`` of each element.

    Args:
        x: the data.
        mean: the decoder's mean.
        variance: the decoder's variance, not negative; 0 is allowed (see `VARIANCE_FLOOR`).
    """
    return gaussian_log_density(x, mean, jnp.log(variance + jnp.asarray(VARIANCE_FLOOR, x.dtype)))


def per_sample(terms: Float[Array, " b *s"]) -> Float[Array, " b"]:
    """Sum over all axes but the first."""
    return jnp.sum(terms.reshape(terms.shape[0], -1), -1)


def free_bits(divergence: Float[Array, " b d"], least: float | int) -> Float[Array, " b"]:
    """KL of each sample with a floor a dimension, below which there is nothing to gain.

    A dimension whose mean over the global batch is below `least` counts `least` and has no
    gradient, so that it does not collapse onto the prior.

    Args:
        divergence: `gaussian_kl` of each latent dimension.
        least: nats a dimension; 0 changes nothing.

    Raises:
        ValueError: a negative floor.
    """
    if least < 0:
        raise ValueError(f"least={least} nats: give 0 or more")
    if least == 0:
        return divergence.sum(-1)
    enough = all_mean(divergence.mean(0)) > least
    return jnp.where(enough, divergence, least).sum(-1)


def monte_carlo_kl(
    z: Float[Array, " samples b d"],
    posterior: tuple[Float[Array, " b d"], Float[Array, " b d"]],
    prior: tuple[Float[Array, " b d"], Float[Array, " b d"]] | None = None,
) -> Float[Array, " b"]:
    """``KL(q || p)`` estimated by draws: the mean of ``log q(z_s) - log p(z_s)``, summed over d.

    Without bias for any number of draws, one included; unlike `gaussian_kl` an estimate may be
    negative. Its error falls as ``1 / sqrt(samples)``.

    Args:
        z: draws of the posterior.
        posterior: its mean and log-variance.
        prior: mean and log-variance; the standard normal by default.
    """
    before = gaussian_log_density(z) if prior is None else gaussian_log_density(z, *prior)
    return (gaussian_log_density(z, *posterior) - before).sum(-1).mean(0)


def importance_weighted_bound(log_weights: Float[Array, " samples b"]) -> Float[Array, " b"]:
    """``log (1/S) sum_s w_s`` of each sample's importance weights; S = 1 is the ELBO.

    Args:
        log_weights: ``log p(x|z_s) + log p(z_s) - log q(z_s|x)``.
    """
    return jax.scipy.special.logsumexp(log_weights, axis=0) - math.log(log_weights.shape[0])


def log_importance_weight(
    log_likelihood: Float[Array, " b"],
    z: Float[Array, " b d"],
    posterior: tuple[Float[Array, " b d"], Float[Array, " b d"]],
    prior: tuple[Float[Array, " b d"], Float[Array, " b d"]] | None = None,
) -> Float[Array, " b"]:
    """``log p(x|z) + log p(z) - log q(z|x)`` of a draw, for `importance_weighted_bound`.

    Args:
        log_likelihood: ``log p(x|z)``.
        z: a draw of the posterior.
        posterior: its mean and log-variance.
        prior: mean and log-variance; the standard normal by default.
    """
    return log_likelihood - monte_carlo_kl(z[None], posterior, prior)


def negative_elbo(
    reconstruction: Float[Array, " b"],
    divergences: Mapping[str, Float[Array, " b _"]],
    weight: Float[Array, ""] | float | int = 1.0,
    least: float | int = 0.0,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """What a VAE of one or more latent levels minimises, with its bookkeeping.

    ``mean_b [reconstruction + weight sum_level sum_d max(KL, least)]``; with ``weight=1`` and
    `reconstruction` a negative log-likelihood it is the negative bound.

    Args:
        reconstruction: loss of each sample, summed over voxels.
        divergences: KL of each latent dimension (`gaussian_kl`) by name of the level.
        weight: beta times warm-up.
        least: free bits a dimension, see `free_bits`.

    Returns:
        The loss, and metrics: ``reconstruction``, ``kl`` (all levels, unweighted), ``elbo``, and
        ``kl_LEVEL`` where there are several; `train.collapse` watches the ``kl`` names. ``used``
        is the number of dimensions that say something, `dimensions_in_use`.
    """
    penalty = sum(free_bits(kl, least).mean() for kl in divergences.values())
    levels = {f"kl_{name}": kl.sum(-1).mean() for name, kl in divergences.items()}
    distortion, total = reconstruction.mean(), sum(levels.values(), start=jnp.float32(0))
    metrics = {"reconstruction": distortion, "kl": total, "elbo": -distortion - total}
    metrics |= levels if len(levels) > 1 else {}
    metrics["used"] = sum(map(dimensions_in_use, divergences.values()), start=jnp.float32(0))
    return distortion + weight * penalty, jax.lax.stop_gradient(metrics)


def dimensions_in_use(kl: Float[Array, "b d"], least: float | int = 0.05) -> Float[Array, ""]:
    """Latent dimensions whose KL from their prior, mean over the global batch, exceeds `least`.

    A level's sum hides that few of its dimensions work: Dice can be fine while most collapsed.
    """
    return (all_mean(kl.mean(0)) > least).sum(dtype=jnp.float32)


def warm_up(step: Real[Array, ""] | float | int, steps: int) -> Float[Array, ""]:
    """``min(step / steps, 1)``, the weight of a term that sets in slowly; 1 without `steps`."""
    return jnp.minimum(jnp.asarray(step, jnp.float32) / steps, 1.0) if steps else jnp.float32(1.0)
