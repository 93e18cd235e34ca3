"""A neural lower bound of mutual information (MINE).

Source: Belghazi et al., ICML 2018: the Donsker-Varadhan bound (eq. 5) and the correction of its
gradient's bias by a moving average of the denominator (section 3.2).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.ops.collectives import all_mean


def mutual_information_bound(
    joint: Float[Array, " b"], marginal: Float[Array, " b"]
) -> Float[Array, ""]:
    """``I(x; y) >= E_joint T - log E_marginal exp T`` in nats.

    A batch of b samples can show no more than about ``log b`` nats reliably.

    Args:
        joint: the critic's values T of pairs ``(x_i, y_i)``.
        marginal: its values of pairs ``(x_i, y_j)`` with y permuted over the batch.
    """
    return all_mean(joint.mean()) - _log_mean_exp(marginal)


def critic_objective(
    joint: Float[Array, " b"],
    marginal: Float[Array, " b"],
    average: Float[Array, ""],
    rate: float = 0.01,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """What the critic minimises: its gradient is that of the bound with a steadier denominator.

    The gradient of ``log E exp T`` is ``E exp(T) grad T / E exp T``; on small batches the quotient
    is biased, so that the denominator is a moving average over steps.

    Args:
        joint: as `mutual_information_bound`.
        marginal: likewise.
        average: log of the moving average of ``E exp T``; start from 0.
        rate: weight of the newest batch in it.

    Returns:
        The loss (only its gradient means anything) and the new `average`.
    """
    now = jax.lax.stop_gradient(_log_mean_exp(marginal))
    new = jnp.logaddexp(jnp.log1p(-rate) + average, jnp.log(rate) + now)
    weighted = all_mean(jnp.mean(jnp.exp(marginal - jax.lax.stop_gradient(new))))
    return weighted - all_mean(joint.mean()), new


def _log_mean_exp(x):
    # One shift for all devices would be safer still; each subtracts its own maximum's mean.
    shift = jax.lax.stop_gradient(all_mean(x.max()))
    return jnp.log(all_mean(jnp.mean(jnp.exp(x - shift)))) + shift
