"""What the models of `rhvae` learn by: the bound, a density of latents, the metric that is kept.

Samples are grouped by kind; means over a kind and the metric of a step are those of the global
batch.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxmedgen.losses.variational import gaussian_kl, gaussian_log_density
from jaxmedgen.nets.variational import sample_gaussian
from jaxmedgen.ops.collectives import all_gather, all_sum
from jaxmedgen.ops.grouping import Places, from_groups, to_groups
from jaxmedgen.ops.riemannian_metric import inverse_metric
from jaxmedgen.systems.shape.rhvae_bound import bound_of
from jaxmedgen.train.objectives import LossInputs, LossOutputs, UpdateOutputs

PLAYER = "vae"
DENSITY = "density"


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When weights are kept and centroids taken.

    Attributes:
        steps: of the training.
        epoch: steps that show every sample once.
        last: steps of the last pass, in which nothing is learned.
        patience: epochs without a better mean bound after which the best weights are final; 0
            takes the last ones.
    """

    steps: int
    epoch: int
    last: int
    patience: int = 0

    def learning_rate(self, rate: float) -> optax.Schedule:
        """A constant rate, and 0 in the last pass."""
        parts = [optax.constant_schedule(rate), optax.constant_schedule(0.0)]
        return optax.join_schedules(parts, [self.steps - self.last])


def schedule_of(config: Any, subjects: int) -> Schedule:
    """The schedule of a configuration for a number of training samples.

    Raises:
        ValueError: no steps before the last pass.
    """
    epoch = -(-subjects // config.batch_size)
    # A pass that begins within an epoch needs two to see every sample.
    aligned = subjects % config.batch_size == 0 and config.steps % epoch == 0
    last = epoch if aligned else 2 * epoch
    if config.steps <= last:
        raise ValueError(f"steps={config.steps}: the last {last} learn nothing, give more")
    return Schedule(config.steps, epoch, last, config.patience)


def bound_loss(model: Any, inputs: LossInputs) -> tuple[Float[Array, ""], LossOutputs]:
    """Minus the bound: its mean over each kind's samples, summed over kinds."""
    params, x = inputs.variables[PLAYER]["params"], model.target(inputs.batch)
    places = model.group(inputs.batch, min(model.places, x.shape[0]))
    shape = (model.bound.noises, model.net.latents)
    noise = jax.vmap(lambda key: jax.random.normal(key, shape))(inputs.keys)
    x, noise = to_groups(places, x), jnp.moveaxis(to_groups(places, noise), 2, 1)
    mean, log_variance = model.encode(params, x)
    factors = model.factors(params, x)
    everywhere = [_gather(a) for a in (mean, factors, places.filled)]
    metric = model.metric_of(*everywhere)

    def one(p, x, mean, log_variance, noise, factors, metric):
        def log_likelihood(z):
            return model.content.log_likelihood(x, model.decode_one(p, z))

        return bound_of(model.bound, log_likelihood, mean, log_variance, noise, factors, metric)

    bounds = jax.vmap(one)(params, x, mean, log_variance, noise, factors, metric)
    bound = _mean(bounds, places)
    loss = -bound.sum()
    metrics = {
        "elbo": bound.mean(),
        "kl": _mean(gaussian_kl(mean, log_variance).sum(-1), places).mean(),
        "left_out": all_sum((places.rank >= places.filled.shape[1]).sum().astype(jnp.float32)),
    }
    variables = {PLAYER: _best(model, inputs, loss)} if model.schedule.patience else {}
    return loss, LossOutputs(jax.lax.stop_gradient(metrics), variables)


def _best(model, inputs: LossInputs, loss):
    """The weights of the best epoch so far, with its mean loss."""
    kept = inputs.variables[PLAYER]["best"]
    total = kept["sum"] + jax.lax.stop_gradient(loss)
    ends = (inputs.step + 1) % model.schedule.epoch == 0
    learning = inputs.step < model.schedule.steps - model.schedule.last
    open_ = ends & learning & (kept["waited"] < model.schedule.patience)
    better = open_ & (total / model.schedule.epoch < kept["loss"])
    params = jax.lax.stop_gradient(inputs.variables[PLAYER]["params"])
    chosen = jax.tree.map(lambda new, old: jnp.where(better, new, old), params, kept["params"])
    waited = jnp.where(better, 0.0, kept["waited"] + open_)
    least = jnp.where(better, total / model.schedule.epoch, kept["loss"])
    total = jnp.where(ends, 0.0, total)
    return {"best": {"params": chosen, "loss": least, "sum": total, "waited": waited}}


def density_loss(model: Any, inputs: LossInputs) -> tuple[Float[Array, ""], LossOutputs]:
    """Minus the log density of posterior draws, which it does not move."""
    x = model.target(inputs.batch)
    places = model.group(inputs.batch, min(model.places, x.shape[0]))
    noise = jax.vmap(lambda key: jax.random.normal(key, (model.net.latents,)))(inputs.keys)
    posterior = model.encode(inputs.variables[PLAYER]["params"], to_groups(places, x))
    z = jax.lax.stop_gradient(sample_gaussian(to_groups(places, noise), *posterior))
    u, jacobian = jax.vmap(model.density.apply)(inputs.variables[DENSITY], z)
    densities = _mean(gaussian_log_density(u).sum(-1) + jacobian, places)
    return -densities.sum(), LossOutputs({"log_density": densities.mean()})


def keep_metric(model: Any, inputs: LossInputs) -> UpdateOutputs:
    """Centroids and factors of the batch's samples; in the last pass of the best weights."""
    variables, batch = inputs.variables[PLAYER], inputs.batch
    params = variables["params"]
    if model.schedule.patience:
        final = inputs.step >= model.schedule.steps - model.schedule.last
        best = variables["best"]["params"]
        params = jax.tree.map(lambda b, p: jnp.where(final, b, p), best, params)
    x = model.target(batch)
    places = model.group(batch, min(model.places, x.shape[0]))
    x = to_groups(places, x)
    mean, factors = model.encode(params, x)[0], model.factors(params, x)
    there = jnp.where(places.rank < mean.shape[1], batch["case"], model.subjects)
    found = {
        "centroids": from_groups(places, mean),
        "factors": from_groups(places, factors),
        "kind": places.group,
    }
    there = all_gather(there)
    kept = {
        name: variables["metric"][name].at[there].set(all_gather(value), mode="drop")
        for name, value in found.items()
    }
    product = jnp.einsum("kbij,kbij->kb", factors, factors)
    metrics = {"metric_trace": _mean(product, places).mean() / model.net.latents}
    if model.net.metric:
        metrics |= _eigenvalues(model, mean, factors, places)
    return UpdateOutputs({PLAYER: params}, {PLAYER: {"metric": kept}}, metrics)


def _eigenvalues(model, mean, factors, places: Places):
    """Range of the eigenvalues of the batch's inverse metric at its own centroids."""
    metric = model.metric_of(*(_gather(a) for a in (mean, factors, places.filled)))
    values = jnp.linalg.eigvalsh(jax.vmap(inverse_metric)(metric, mean))
    there = places.filled[..., None]
    least = jnp.where(there, values, jnp.inf).min()
    largest = jnp.where(there, values, 0.0).max()
    return {
        "metric_least": all_gather(least[None]).min(),
        "metric_largest": all_gather(largest[None]).max(),
    }


def _gather(x):
    """Places of all devices."""
    return jnp.moveaxis(all_gather(jnp.moveaxis(x, 1, 0)), 0, 1)


def _mean(values, places: Places):
    """Mean of each kind over the samples of all devices."""
    total = all_sum(jnp.where(places.filled, values, 0.0).sum(1))
    return total / jnp.maximum(all_sum(places.filled.sum(1).astype(values.dtype)), 1.0)
