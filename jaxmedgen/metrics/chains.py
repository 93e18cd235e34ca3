"""Convergence of Markov chains: acceptance, energy error, split R-hat and effective sample size.

Sources: Vehtari et al., "Rank-normalization, folding, and localization: an improved R-hat", 2021,
as implemented in blackjax.
"""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

DIAGNOSTICS = ("acceptance", "energy_error", "rhat", "ess")


def split_rhat(trace: Float[Array, " b chains draws"]) -> Float[Array, " b"]:
    """Rank-normalised split R-hat: 1 where the halves of all chains agree; below 1.01 is good."""
    from blackjax.diagnostics import rhat

    return rhat(jnp.moveaxis(trace, 0, -1)).reshape(-1)


def effective_sample_size(trace: Float[Array, " b chains draws"]) -> Float[Array, " b"]:
    """Number of independent draws that would give the mean as precisely, over all chains."""
    from blackjax.diagnostics import ess_bulk

    return ess_bulk(jnp.moveaxis(trace, 0, -1)).reshape(-1)


def chain_diagnostics(
    course: Mapping[str, Float[Array, " b chains transitions"]],
) -> dict[str, Array]:
    """One number a subject of each of `DIAGNOSTICS`.

    Args:
        course: ``energy``, ``acceptance`` and ``error`` of every transition.
    """
    return {
        "acceptance": jnp.mean(course["acceptance"], (1, 2)),
        # The median: a single divergent trajectory has an error without bound.
        "energy_error": jnp.median(jnp.abs(course["error"]), (1, 2)),
        "rhat": split_rhat(course["energy"]),
        "ess": effective_sample_size(course["energy"]),
    }
