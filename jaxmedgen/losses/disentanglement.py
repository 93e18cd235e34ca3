"""Penalties that ask for statistically independent latent dimensions.

Both look at the aggregated posterior ``q(z) = E_x q(z|x)`` of the global batch, so they give the
same numbers on one device and on many.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.losses.variational import gaussian_log_density
from jaxmedgen.ops.collectives import all_gather, all_mean


def total_correlation(
    z: Float[Array, " b d"],
    mean: Float[Array, " b d"],
    log_variance: Float[Array, " b d"],
    population: int,
) -> Float[Array, ""]:
    """``KL(q(z) || prod_j q(z_j))``, the term that beta-TCVAE weights.

    Minibatch-weighted sampling: ``q(z) ~ 1/(NM) sum_m q(z|x_m)`` with M samples of the global batch
    and N of the data set. The factors ``1/(NM)`` make the estimate of ``log q(z)`` biased; the
    gradient does not see them.

    Source: Chen et al., "Isolating sources of disentanglement in variational autoencoders", 2018,
    equation S6.

    Args:
        z: draws from the posteriors.
        mean: of the posteriors.
        log_variance: of the posteriors.
        population: number N of samples in the data set.

    Raises:
        ValueError: an empty data set.
    """
    if population < 1:
        raise ValueError(f"population={population}: give the number of training samples")
    means, log_variances = all_gather(mean), all_gather(log_variance)
    # [b, m, d]: density of draw b under the posterior of sample m
    density = gaussian_log_density(z[:, None], means[None], log_variances[None])
    count = math.log(population * means.shape[0])
    joint = jax.scipy.special.logsumexp(density.sum(-1), axis=1) - count
    marginals = (jax.scipy.special.logsumexp(density, axis=1) - count).sum(-1)
    return all_mean((joint - marginals).mean())


def covariance_penalty(
    mean: Float[Array, " b d"],
    log_variance: Float[Array, " b d"],
    *,
    off_diagonal: float | int,
    diagonal: float | int,
) -> Float[Array, ""]:
    """DIP-VAE-II: ``l_o sum_{i != j} C_ij^2 + l_d sum_i (C_ii - 1)^2``, C the covariance of q(z).

    ``C = Cov_x[mean] + E_x[diag variance]``.

    Source: Kumar, Sattigeri & Balakrishnan, "Variational inference of disentangled latent concepts
    from unlabeled observations", 2018, equation 7.

    Args:
        mean: of the posteriors.
        log_variance: of the posteriors.
        off_diagonal: weight l_o of the covariances.
        diagonal: weight l_d of the variances.
    """
    centre = all_mean(mean.mean(0))
    centred = mean - centre
    covariance = all_mean(jnp.matmul(centred.T, centred, precision="highest") / len(mean))
    covariance = covariance + jnp.diag(all_mean(jnp.exp(log_variance).mean(0)))
    own = jnp.diagonal(covariance)
    others = jnp.sum(covariance**2) - jnp.sum(own**2)
    return off_diagonal * others + diagonal * jnp.sum((own - 1) ** 2)
