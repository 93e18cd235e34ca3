"""VAE and conditional VAE of images and masks, with the autoencoder and the linear VAE.

A latent-variable model ``p(x|y) = int p(x|z, y) p(z|y) dz`` trained by its bound (Kingma & Welling,
"Auto-encoding variational Bayes", 2014; Sohn, Lee & Yan, "Learning structured output representation
using deep conditional generative models", 2015; derivation: Doersch, "Tutorial on variational
autoencoders", 2016):

    L = R(x, x') + beta min(t / T, 1) sum_j max(KL_j[q(z|x, y) || p(z|y)], free bits)

R is summed over voxels; its kinds are in `losses.reconstruction`. An autoencoder has neither the
second term nor noise. Principal components are in `component_model`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray

from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.losses.variational import (
    gaussian_kl,
    importance_weighted_bound,
    log_importance_weight,
    negative_elbo,
    warm_up,
)
from jaxmedgen.nets.conditional_vae import ConditionalVae
from jaxmedgen.nets.gaussian_heads import ConditionEmbed, check_classes
from jaxmedgen.nets.variational import sample_gaussian
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.shape.vae_criterion import Bounds, Criterion
from jaxmedgen.train.objectives import LossInputs, LossOutputs, Objective, PlayerSettings
from jaxmedgen.train.players import player_settings
from jaxmedgen.train.state import TrainState, create_state
from jaxmedgen.types import Batch

PLAYER = "vae"
LEVEL = "z"


@dataclasses.dataclass(frozen=True)
class Vae:
    """A VAE with its training criterion.

    Attributes:
        net: the model.
        settings: optimiser and weight averaging.
        criterion: what is minimised.
        stochastic: False decodes posterior means without a Kullback-Leibler term: an autoencoder.
        condition_keys: of the batch, one for each of the net's conditions.
        condition_shapes: of one sample's conditions: ``()`` for a class.
        masks: whether the data are the label maps, a channel a class, and not the images.
        classes: label values, where `masks`.
    """

    net: ConditionalVae
    settings: PlayerSettings
    criterion: Criterion
    stochastic: bool = True
    condition_keys: tuple[str, ...] = ()
    condition_shapes: tuple[tuple[int, ...], ...] = ()
    masks: bool = False
    classes: int = 2

    @property
    def levels(self) -> Mapping[str, int]:
        """One latent level."""
        return {LEVEL: self.net.latents}

    def players(self) -> Mapping[str, PlayerSettings]:
        """One player: encoder, decoder and prior."""
        return {PLAYER: self.settings}

    def init(self, key: PRNGKeyArray, batch: Batch) -> TrainState:
        """Fresh parameters, of the shapes that the system was built for."""
        del batch
        init_key, run_key = jax.random.split(key)
        given = tuple(
            jnp.zeros((1, *shape), jnp.float32 if shape else jnp.int32)
            for shape in self.condition_shapes
        )
        x, noise = jnp.zeros((1, *self.net.shape)), jnp.zeros((1, self.net.latents))
        variables = self.net.init(init_key, x, noise, given)
        return create_state(run_key, {PLAYER: variables}, self.players())

    def objectives(self) -> tuple[Objective, ...]:
        """The negative bound, or the reconstruction alone."""
        return (Objective("bound", (PLAYER,), self._loss),)

    def prepare(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        """Nothing is random."""
        del keys
        return batch

    def target(self, batch: Batch) -> Float[Array, " b *s c"]:
        """The data: images, or masks with a channel a class; the background only for ``ce``."""
        if self.masks:
            maps = jax.nn.one_hot(batch["label"], self.classes)
            return maps if self.criterion.reconstruction == "ce" else maps[..., 1:]
        image = batch["image"].astype(jnp.float32)
        if self.criterion.reconstruction == "ce" and image.shape[-1] == 1:
            return jnp.concatenate([1 - image, image], -1)
        return image

    def encode_levels(
        self, variables: PlayerVariables, batch: Batch
    ) -> dict[str, tuple[Float[Array, " b d"], Float[Array, " b d"]]]:
        """Mean and log-variance of the posterior."""
        x, given = self.target(batch), self._conditions(batch)
        return {LEVEL: self.net.apply(variables[PLAYER], x, given, method="encode")}

    def divergences(
        self, variables: PlayerVariables, batch: Batch
    ) -> dict[str, Float[Array, " b d"]]:
        """KL of each latent dimension from ``p(z|y)`` in nats."""
        posterior, given = self.encode_levels(variables, batch)[LEVEL], self._conditions(batch)
        count = posterior[0].shape[0]
        prior = self.net.apply(variables[PLAYER], count, given, method="prior_given")
        return {LEVEL: gaussian_kl(*posterior, *prior)}

    def prior_levels(
        self, variables: PlayerVariables, noise: Mapping[str, Array], batch: Batch
    ) -> dict[str, Float[Array, " b d"]]:
        """Draws of ``p(z|y)``."""
        count = noise[LEVEL].shape[0]
        prior = self.net.apply(
            variables[PLAYER], count, self._conditions(batch), method="prior_given"
        )
        return {LEVEL: sample_gaussian(noise[LEVEL], *prior)}

    def decode_levels(
        self, variables: PlayerVariables, latents: Mapping[str, Array], batch: Batch
    ) -> Float[Array, " b *s c"]:
        """Means of ``p(x|z, y)``."""
        given = self._conditions(batch)
        output = self.net.apply(variables[PLAYER], latents[LEVEL], given, method="decode")
        return self.criterion.mean(output)

    def reconstruct_batch(
        self, variables: PlayerVariables, batch: Batch
    ) -> Float[Array, " b *s c"]:
        """The data as their posterior means have them."""
        mean, _ = self.encode_levels(variables, batch)[LEVEL]
        return self.decode_levels(variables, {LEVEL: mean}, batch)

    def bounds(
        self, variables: PlayerVariables, keys: Key[Array, " b"], batch: Batch, samples: int = 1
    ) -> Bounds:
        """Bounds of ``log p(x|y)`` by draws of the posterior, one at a time.

        Args:
            variables: by player.
            keys: one a sample.
            batch: data and conditions.
            samples: draws; memory does not grow with them.

        Raises:
            ValueError: a reconstruction loss that is no likelihood, or an autoencoder.
        """
        if not self.stochastic:
            raise ValueError("an autoencoder has no posterior and no bound: choose arm=vae")
        x, given = self.target(batch), self._conditions(batch)

        def draw(number):
            noise = self._noise(jax.vmap(lambda key: jax.random.fold_in(key, number))(keys))
            output, posterior, prior = self.net.apply(variables[PLAYER], x, noise, given)
            likelihood = self.criterion.log_likelihood(x, output, _log_deviation(variables[PLAYER]))
            z = sample_gaussian(noise, *posterior)
            weight = log_importance_weight(likelihood, z, posterior, prior)
            return likelihood, weight, gaussian_kl(*posterior, *prior)

        likelihood, weights, kl = jax.lax.map(draw, jnp.arange(samples))
        likelihood, kl = likelihood.mean(0), kl[0]
        iwae = importance_weighted_bound(weights)
        return Bounds(likelihood - kl.sum(-1), iwae, likelihood, kl)

    def show(
        self, variables: PlayerVariables, keys: Key[Array, " b"], batch: Batch
    ) -> dict[str, Float[Array, " b *s c"]]:
        """The data, what is kept of them, and draws of the prior."""
        z = self.prior_levels(variables, {LEVEL: self._noise(keys, always=True)}, batch)
        return {
            "data": self.target(batch),
            "reconstructions": self.reconstruct_batch(variables, batch),
            "prior": self.decode_levels(variables, z, batch),
        }

    def check_record(self, record: Mapping[str, Any]) -> None:
        """Refuses a record whose class does not exist: its one-hot vector would be zeros.

        Raises:
            ValueError: a class below 0 or from ``condition.classes`` on.
        """
        for name, embed in zip(self.condition_keys, self.net.conditions):
            if embed.kind == "class" and name in record:
                value = np.asarray(record[name])
                check_classes(value, embed.classes, f"'{name}' (condition.classes)")

    def _conditions(self, batch):
        missing = [key for key in self.condition_keys if key not in batch]
        if missing:
            raise ValueError(
                f"the data have no '{missing[0]}' to condition on, only {sorted(batch)}: "
                "choose another --config.condition.names, or arm=vae"
            )
        return tuple(batch[key] for key in self.condition_keys)

    def _noise(self, keys, always=False):
        noise = jax.vmap(lambda key: jax.random.normal(key, (self.net.latents,)))(keys)
        return noise if self.stochastic or always else jnp.zeros_like(noise)

    def _loss(self, inputs: LossInputs) -> tuple[Float[Array, ""], LossOutputs]:
        x, given = self.target(inputs.batch), self._conditions(inputs.batch)
        model, noise = inputs.variables[PLAYER], self._noise(inputs.keys)
        output, posterior, prior = self.net.apply(model, x, noise, given)
        each = self.criterion.distortion(x, output, _log_deviation(model))
        if not self.stochastic:
            loss = each.mean()
            return loss, LossOutputs({"reconstruction": jax.lax.stop_gradient(loss)})
        criterion = self.criterion
        weight = criterion.beta * warm_up(inputs.step, criterion.warm_up)
        divergence = {LEVEL: gaussian_kl(*posterior, *prior)}
        loss, metrics = negative_elbo(each, divergence, weight, criterion.free_bits)
        return loss, LossOutputs(metrics)


def _condition_shape(kind, condition, shape):
    return {"class": (), "vector": (condition.length,), "image": (*shape[:-1], 1)}[kind]


def _log_deviation(variables):
    return variables["params"].get("log_deviation", 0.0)


def build(config: Any, info: DatasetInfo) -> Vae:
    """The system of a configuration for a data set.

    Raises:
        ValueError: settings that do not fit each other or the data.
    """
    model, condition = config.model, config.condition
    kinds, keys = tuple(condition.kinds), tuple(condition.names)
    if len(kinds) != len(keys):
        raise ValueError(f"condition.kinds={kinds} and condition.names={keys}: give one kind a key")
    if not kinds and model.prior == "learned":
        raise ValueError("model.prior='learned' needs a condition: choose arm=cvae-learned")
    kind = config.criterion.reconstruction
    channels = info.num_classes - 1 if model.masks else len(info.channel_names) or 1
    if kind == "ce":
        channels = channels + 1 if model.masks or channels == 1 else channels
    net = ConditionalVae(
        shape=(*(tuple(config.patch_size) or tuple(config.data.shape)), channels),
        latents=model.latents,
        architecture=model.architecture,
        widths=tuple(model.widths),
        neck=model.neck,
        conditions=tuple(
            ConditionEmbed(
                each,
                classes=condition.classes,
                features=condition.features if each == "image" else 0,
                widths=tuple(condition.widths),
            )
            for each in kinds
        ),
        encoder_sees=model.encoder_sees,
        prior=model.prior,
        gaussian=model.stochastic,
        learned_deviation=kind == "gaussian",
        dtype=jnp.dtype(model.dtype),
    )
    return Vae(
        net=net,
        settings=player_settings(config.optimizer, config.steps),
        criterion=Criterion(**config.criterion),
        stochastic=model.stochastic,
        condition_keys=keys,
        condition_shapes=tuple(_condition_shape(each, condition, net.shape) for each in kinds),
        masks=model.masks,
        classes=info.num_classes,
    )
