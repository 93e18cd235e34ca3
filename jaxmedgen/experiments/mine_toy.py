"""Mutual information of correlated Gaussians, estimated by MINE and known exactly."""

import functools
import math

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxmedgen.losses.mutual_information import critic_objective, mutual_information_bound
from jaxmedgen.nets.genseg import StatisticsNetwork


def correlated_pairs(
    key: PRNGKeyArray, count: int, dimensions: int, correlation: float
) -> tuple[Float[Array, "n d"], Float[Array, "n d"]]:
    """Pairs of normal vectors whose coordinates are correlated one by one."""
    x, noise = jax.random.normal(key, (2, count, dimensions))
    return x, correlation * x + math.sqrt(1 - correlation**2) * noise


def exact_information(dimensions: int, correlation: float) -> float:
    """``-d/2 log(1 - rho^2)`` nats."""
    return -0.5 * dimensions * math.log(1 - correlation**2)


def estimated_information(
    *,
    dimensions: int = 20,
    correlation: float = 0.5,
    steps: int = 4000,
    batch: int = 512,
    features: tuple[int, ...] = (256, 256),
    evaluated: int = 20_000,
    seed: int = 0,
) -> float:
    """MINE's bound after training a critic on fresh pairs, of pairs that it has not seen.

    Args:
        dimensions: of either vector.
        correlation: of their coordinates.
        steps: of Adam, rate 1e-3 falling to 0.
        batch: pairs a step.
        features: widths of the critic.
        evaluated: pairs that the bound is taken over.
        seed: of everything.
    """
    critic = StatisticsNetwork(features)
    init_key, run_key, test_key = jax.random.split(jax.random.key(seed), 3)
    params = critic.init(init_key, *correlated_pairs(init_key, 2, dimensions, correlation))
    adam = optax.adam(optax.cosine_decay_schedule(1e-3, steps))

    def values(params, key, count):
        x, y = correlated_pairs(key, count, dimensions, correlation)
        # Pairs are independent: the next one's partner is as good as any permutation's.
        return critic.apply(params, x, y), critic.apply(params, x, jnp.roll(y, 1, 0))

    def step(carry, number):
        params, state, average = carry

        def loss(params):
            joint, marginal = values(params, jax.random.fold_in(run_key, number), batch)
            return critic_objective(joint, marginal, average)

        (_, average), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = adam.update(gradient, state)
        return (optax.apply_updates(params, updates), state, average), None

    @functools.partial(jax.jit, static_argnums=1)
    def run(params, steps):
        start = (params, adam.init(params), jnp.zeros(()))
        (params, _, _), _ = jax.lax.scan(step, start, jnp.arange(steps))
        return mutual_information_bound(*values(params, test_key, evaluated))

    return float(run(params, steps))
