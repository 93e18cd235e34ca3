"""Hamiltonian Monte Carlo for a batch of chains, each with a step size of its own.

Positions are *whitened*: for a Gaussian prior ``x = A xi``, ``xi ~ N(0, 1)``, the sampler moves
``xi`` with unit mass. That is the sampler on ``x`` with the prior's precision ``L = (A A^T)^-1`` as
mass (``r = L^(1/2) eta``), without ever applying L, whose range would cost float32 its digits. The
fastest frequency is then set by the data alone, whatever the resolution.

Energies are kept in parts, and their differences are summed: ``H_new - H_old`` is then accurate to
about 1e-3 where the energies themselves are of the order of the number of voxels.

Sources: Neal, "MCMC using Hamiltonian dynamics", 2011; Hoffman and Gelman, "The No-U-Turn sampler",
2014 (dual averaging of the step size, by blackjax).
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from jaxmedgen.types import Leaf

Energy = Callable[[jax.Array], jax.Array]
"""Positions ``[b, *x]`` -> negative log densities in parts, ``[b, parts]``; their sum counts."""

_JITTER = 0.2


class HmcState(NamedTuple):
    """Where the chains are.

    Attributes:
        position: ``[b, *x]``.
        energy: parts of the energy there, ``[b, parts]``.
        gradient: of the summed energy, like `position`.
    """

    position: Leaf
    energy: Leaf
    gradient: Leaf


class HmcInfo(NamedTuple):
    """What happened in a transition, one number a chain ``[b]``.

    Attributes:
        acceptance: ``min(1, exp(H_old - H_new))``, 0 where the new energy is not finite.
        error: ``H_new - H_old`` of the trajectory.
    """

    acceptance: Leaf
    error: Leaf


def hmc_start(energy: Energy, position: Float[Array, " b *x"]) -> HmcState:
    """The state of chains at `position`."""
    parts, transpose = jax.vjp(energy, position)
    return HmcState(position, parts, transpose(jnp.ones_like(parts))[0])


def leapfrog(
    energy: Energy,
    state: HmcState,
    momentum: Float[Array, " b *x"],
    step_size: Float[Array, " b"],
    steps: int,
) -> tuple[HmcState, Float[Array, " b *x"]]:
    """Follows Hamilton's equations for `steps` steps; error ``O(step_size^2)``, reversible.

    Args:
        energy: potential.
        state: start.
        momentum: at the start, unit mass.
        step_size: one a chain.
        steps: number of steps.

    Returns:
        State and momentum at the end.
    """
    eps = _each(step_size, momentum)

    def move(carry, _):
        position, momentum = carry[:2]
        position = position + eps * momentum
        new = hmc_start(energy, position)
        return (position, momentum - eps * new.gradient, new.energy, new.gradient), None

    start = (state.position, momentum - 0.5 * eps * state.gradient, state.energy, state.gradient)
    position, momentum, parts, gradient = jax.lax.scan(move, start, None, length=steps)[0]
    return HmcState(position, parts, gradient), momentum + 0.5 * eps * gradient


def hmc_transition(
    keys: Key[Array, " b"],
    state: HmcState,
    energy: Energy,
    step_size: Float[Array, " b"],
    steps: int,
) -> tuple[HmcState, HmcInfo]:
    """One trajectory from a fresh momentum, accepted or rejected.

    The step size is varied by up to 20 %, for a fixed length could hit a period of the motion.

    Args:
        keys: one a chain.
        state: where the chains are.
        energy: negative log density.
        step_size: one a chain.
        steps: leapfrog steps.
    """
    split = jax.vmap(lambda key: jax.random.split(key, 3))(keys)
    shape = state.position.shape[1:]
    momentum = jax.vmap(lambda key: jax.random.normal(key, shape, state.position.dtype))(
        split[:, 0]
    )
    stretch = jax.vmap(functools.partial(jax.random.uniform, minval=-_JITTER, maxval=_JITTER))(
        split[:, 1]
    )
    end, last = leapfrog(energy, state, momentum, step_size * (1 + stretch), steps)
    kinetic = 0.5 * _total((last - momentum) * (last + momentum))
    error = jnp.sum(end.energy - state.energy, -1) + kinetic
    safe = jnp.where(jnp.isfinite(error), error, jnp.inf)
    acceptance = jnp.exp(jnp.minimum(0.0, -safe))
    threshold = jnp.log(jax.vmap(jax.random.uniform)(split[:, 2]))
    taken: Bool[Array, " b"] = threshold < -safe
    chosen = jax.tree.map(lambda new, old: jnp.where(_each(taken, new), new, old), end, state)
    return chosen, HmcInfo(acceptance, error)


def tune_start(step_size: float | int, chains: tuple[int, ...]) -> dict[str, jax.Array]:
    """State of the dual averaging of each chain's step size.

    Args:
        step_size: what chains start with, and what those keep that are never tuned.
        chains: shape of the batch of chains.
    """
    from blackjax.optimizers.dual_averaging import dual_averaging

    first = dual_averaging()[0](jnp.full(chains, float(step_size)))
    # Blackjax starts the average at a step of 1. The first update gives the start no weight.
    first = first._replace(log_x_avg=first.log_x)
    return {
        name: jnp.broadcast_to(jnp.asarray(x, jnp.float32), chains)
        for name, x in first._asdict().items()
    }


def tune(
    tuning: dict[str, jax.Array], acceptance: Float[Array, " b"], target: float | int
) -> dict[str, jax.Array]:
    """One step of dual averaging towards a mean acceptance of `target`."""
    from blackjax.optimizers.dual_averaging import DualAveragingState, dual_averaging

    update = dual_averaging()[1]
    return update(DualAveragingState(**tuning), target - acceptance)._asdict()


def sample_chains(
    keys: Key[Array, " b"],
    position: Float[Array, " b *x"],
    tuning: dict[str, jax.Array],
    energy: Energy,
    *,
    draws: int,
    thinning: int,
    steps: int,
    target: float | int,
    adapt: Bool[Array, ""] | bool,
) -> tuple[dict[str, jax.Array], Float[Array, " draws b *x"], dict[str, jax.Array]]:
    """Runs the chains for ``draws * thinning`` transitions and keeps every `thinning`-th position.

    Args:
        keys: one a chain.
        position: where they start.
        tuning: of the step sizes, see `tune_start`.
        energy: negative log density.
        draws: positions to keep.
        thinning: transitions a kept position.
        steps: leapfrog steps a transition.
        target: acceptance to tune the step size to.
        adapt: tune it; otherwise the averaged one is used.

    Returns:
        The tuning, the kept positions (the last is the end of the chains), and the course of
        ``energy``, ``acceptance`` and ``error``, each ``[draws * thinning, b]``.
    """

    def transition(carry, number):
        state, tuning = carry
        size = jnp.exp(jnp.where(adapt, tuning["log_x"], tuning["log_x_avg"]))
        here = jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
        state, info = hmc_transition(here, state, energy, size, steps)
        tuned = tune(tuning, info.acceptance, target)
        tuning = {name: jnp.where(adapt, tuned[name], x) for name, x in tuning.items()}
        course = (jnp.sum(state.energy, -1), info.acceptance, info.error)
        return (state, tuning), course

    def draw(carry, number):
        numbers = number * thinning + jnp.arange(thinning)
        carry, course = jax.lax.scan(transition, carry, numbers)
        return carry, (carry[0].position, course)

    start = (hmc_start(energy, position), tuning)
    (_, tuning), (kept, course) = jax.lax.scan(draw, start, jnp.arange(draws))
    energies, acceptance, error = (x.reshape(draws * thinning, -1) for x in course)
    return tuning, kept, {"energy": energies, "acceptance": acceptance, "error": error}


def _each(x, like):
    """``[b]`` shaped to multiply ``[b, ...]``."""
    return x.reshape(-1, *(1,) * (like.ndim - 1))


def _total(x):
    return jnp.sum(x, tuple(range(1, x.ndim)))
