"""beta-VAE of label maps: what the anatomy of a population looks like, as a vector of 16 numbers.

Decoded points between, beyond or around subjects are new label maps for a label-conditional
generator (Amirrajab, Al Khalil, Lorenz, Weese, Pluim & Breeuwer, "Pathology synthesis of
3D-consistent cardiac MR images using 2D VAEs and GANs", MELBA 2023:010). What is done in the latent
space of a stack is in `ops.latent_paths` and `ops.correlated_normal`.

    L = CE_sum + beta KL,  CE_sum = mean_b sum_voxels -log softmax(o)[S],
    KL = sum_j mean_b (exp(lv) + mu^2 - 1 - lv) / 2

or, with a capacity C, ``beta |KL - C(t)|`` with C(t) rising linearly (Burgess et al., 2018).
Slices or volumes, after the data.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.data.stacks import label_shape
from jaxmedgen.losses.label_maps import (
    RECONSTRUCTIONS,
    Reconstruction,
    label_reconstruction_loss,
)
from jaxmedgen.losses.segmentation import dice_loss
from jaxmedgen.losses.variational import gaussian_kl, warm_up
from jaxmedgen.nets.label_autoencoder import LabelAutoencoder
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.train.objectives import LossInputs, LossOutputs, Objective, PlayerSettings
from jaxmedgen.train.optim import schedule
from jaxmedgen.train.players import player_settings
from jaxmedgen.train.state import TrainState, create_state
from jaxmedgen.types import Batch

PLAYER = "vae"


@dataclasses.dataclass(frozen=True)
class LabelVae:
    """An autoencoder of label maps with its training criterion.

    Attributes:
        net: the model.
        settings: optimiser and weight averaging.
        beta: weight of the Kullback-Leibler term; 0 with ``stochastic=False`` is an autoencoder.
        reconstruction: kind of the reconstruction loss.
        capacity: nats that the Kullback-Leibler term is drawn to in the end; None draws it to 0.
        capacity_steps: over which the capacity rises.
        stochastic: False decodes posterior means in training.
        quarter_turns: probability that a training map is turned by 90, 180 or 270 degrees.
    """

    net: LabelAutoencoder
    settings: PlayerSettings
    beta: float | int = 15.0
    reconstruction: Reconstruction | str = "ce"
    capacity: float | int | None = None
    capacity_steps: int = 0
    stochastic: bool = True
    quarter_turns: float | int = 0.0

    def __post_init__(self) -> None:
        if self.reconstruction not in RECONSTRUCTIONS:
            raise ValueError(
                f"criterion.reconstruction='{self.reconstruction}': choose one of "
                f"{', '.join(RECONSTRUCTIONS)}"
            )
        if self.beta < 0:
            raise ValueError(f"criterion.beta={self.beta}: give 0 or more")
        if self.quarter_turns and self.net.shape[-1] != self.net.shape[-2]:
            raise ValueError(
                f"augment.quarter_turns={self.quarter_turns} turns slices of {self.net.shape[-2:]} "
                "onto each other: they must be square, or the probability 0"
            )

    def players(self) -> Mapping[str, PlayerSettings]:
        """One player: encoder and decoder."""
        return {PLAYER: self.settings}

    def init(self, key: PRNGKeyArray, batch: Batch) -> TrainState:
        """Fresh parameters, of the shape that the network was built for."""
        del batch
        init_key, run_key = jax.random.split(key)
        onehot = jnp.zeros((1, *self.net.shape, self.net.classes))
        variables = self.net.init(init_key, onehot, jnp.zeros((1, self.net.latents)), True)
        return create_state(run_key, {PLAYER: variables}, self.players())

    def objectives(self) -> tuple[Objective, ...]:
        """Reconstruction and Kullback-Leibler term."""
        return (Objective("bound", (PLAYER,), self._loss),)

    def prepare(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        """Turns label maps (and what images come with them) by quarters, where asked to."""
        if not self.quarter_turns:
            return batch
        pairs = jax.vmap(lambda key: jax.random.split(key))(keys)
        on = jax.vmap(lambda key: jax.random.bernoulli(key, self.quarter_turns))(pairs[:, 0])
        turns = jax.vmap(lambda key: jax.random.randint(key, (), 1, 4))(pairs[:, 1])
        label = turn_by_quarters(batch["label"], jnp.where(on, turns, 0))
        return {**batch, "label": label}

    def encode_labels(
        self, variables: PlayerVariables, label: Int[Array, " b *s"]
    ) -> tuple[Float[Array, " b d"], Float[Array, " b d"]]:
        """Mean and log-variance of the posterior."""
        return self.net.apply(variables[PLAYER], self._onehot(label), method="encode")

    def decode_labels(
        self, variables: PlayerVariables, z: Float[Array, " b d"]
    ) -> Int[Array, " b *s"]:
        """The likeliest class of every voxel."""
        scores = self.net.apply(variables[PLAYER], z, method="decode")
        return jnp.argmax(scores, -1).astype(jnp.int32)

    def show(
        self, variables: PlayerVariables, keys: Key[Array, " b"], batch: Batch
    ) -> dict[str, Float[Array, " b *s c"]]:
        """Label maps, what is kept of them, and draws from the prior, as grey levels."""
        label = batch["label"]
        mean, _ = self.encode_labels(variables, label)
        noise = jax.vmap(lambda key: jax.random.normal(key, (self.net.latents,)))(keys)
        rows = {
            "labels": label,
            "reconstructions": self.decode_labels(variables, mean),
            "prior": self.decode_labels(variables, noise),
        }
        return {name: row[..., None].astype(jnp.float32) for name, row in rows.items()}

    def _onehot(self, label):
        return jax.nn.one_hot(label, self.net.classes)

    def _loss(self, inputs: LossInputs) -> tuple[Float[Array, ""], LossOutputs]:
        label = inputs.batch["label"]
        noise = jax.vmap(lambda key: jax.random.normal(key, (self.net.latents,)))(inputs.keys)
        (scores, mean, log_variance), updated = self.net.apply(
            inputs.variables[PLAYER],
            self._onehot(label),
            noise if self.stochastic else jnp.zeros_like(noise),
            True,
            mutable=["batch_stats"],
        )
        reconstruction = label_reconstruction_loss(scores, label, self.reconstruction)
        divergence = gaussian_kl(mean, log_variance).sum(-1).mean()
        if self.capacity is None:
            penalty = self.beta * divergence
        else:
            wanted = self.capacity * warm_up(inputs.step, self.capacity_steps)
            penalty = self.beta * jnp.abs(divergence - wanted)
        metrics = {
            "reconstruction": reconstruction,
            "kl": divergence,
            "soft_dice": 1 - dice_loss(scores, label),
        }
        outputs = LossOutputs(jax.lax.stop_gradient(metrics), {PLAYER: updated})
        return reconstruction + penalty, outputs


def turn_by_quarters(label: Int[Array, " b *s"], turns: Int[Array, " b"]) -> Int[Array, " b *s"]:
    """Label maps turned in the plane of the last two axes by quarters, one number a sample."""
    out = label
    for k in (1, 2, 3):
        turned = jnp.rot90(label, k, axes=(-2, -1))
        out = jnp.where((turns == k).reshape(-1, *(1,) * (label.ndim - 1)), turned, out)
    return out


def build(config: Any, info: DatasetInfo) -> LabelVae:
    """The system of a configuration for a data set.

    Raises:
        ValueError: settings that do not fit each other or the data.
    """
    net, criterion, rate = dict(config.net), config.criterion, config.optimizer
    if isinstance(net.get("dtype"), str):
        net["dtype"] = jnp.dtype(net["dtype"])
    return LabelVae(
        net=LabelAutoencoder(shape=label_shape(config), classes=info.num_classes, **net),
        settings=player_settings(rate, config.steps, learning_rate(rate, config.steps)),
        beta=criterion.beta,
        reconstruction=criterion.reconstruction,
        capacity=None if criterion.capacity < 0 else criterion.capacity,
        capacity_steps=criterion.capacity_steps,
        stochastic=criterion.stochastic,
        quarter_turns=config.augment.quarter_turns,
    )


def learning_rate(rate: Any, steps: int) -> optax.Schedule:
    """The schedule of a configuration; ``exponential`` decays in stairs after a constant part.

    From step ``decay_from`` on the rate is multiplied by ``decay`` every ``decay_every`` steps
    (0.96 an epoch from epoch 150 on, in the reference implementation).
    """
    if rate.schedule != "exponential":
        return schedule(rate.schedule, rate.learning_rate, steps, rate.warmup)
    every, decay, start = rate.decay_every, rate.decay, rate.decay_from

    def value(step):
        stairs = jnp.maximum(jnp.floor((step - start) / np.maximum(every, 1)) + 1, 0)
        return rate.learning_rate * jnp.asarray(decay, jnp.float32) ** stairs

    return value
