"""Riemannian Hamiltonian VAE: images of small classes, drawn where the data lies in latent space.

One model a kind of image (a class of the classification problem), all trained side by side in one
program. The latent space gets a metric that is small along the data; new latents are drawn from
its inverse volume (or by a random walk along geodesics) instead of the prior, which also hits the
holes between the data. Images, label maps or both.

The metric of a training step is that of its batch. What samplers use is kept beside the weights:
each training sample's centroid and factor, of the last weights, for which the learning rate of the
last pass over the data is zero.

Source: Chadebec & Allassonniere, "Data augmentation with variational autoencoders and manifold
sampling", DALI @ MICCAI 2021.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PRNGKeyArray

from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.nets.coupling_flow import CouplingFlow
from jaxmedgen.nets.metric_vae import MetricVae
from jaxmedgen.ops.grouping import from_groups, to_groups
from jaxmedgen.ops.riemannian_metric import NOWHERE
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.shape.rhvae_bound import Bound
from jaxmedgen.systems.shape.rhvae_content import Content
from jaxmedgen.systems.shape.rhvae_generation import DrawnFromMetric
from jaxmedgen.systems.shape.rhvae_sampling import Sampling
from jaxmedgen.systems.shape.rhvae_training import (
    DENSITY,
    PLAYER,
    Schedule,
    bound_loss,
    density_loss,
    keep_metric,
    schedule_of,
)
from jaxmedgen.train.objectives import Objective, PlayerSettings, Update
from jaxmedgen.train.optim import optimizer
from jaxmedgen.train.state import TrainState, create_state
from jaxmedgen.types import Batch, Params


@dataclasses.dataclass(frozen=True)
class Rhvae(DrawnFromMetric):
    """VAEs with their metrics, one a kind.

    Attributes:
        net: the networks of one kind.
        settings: optimiser.
        content: what is modelled.
        bound: what is maximised.
        sampling: how new latents are drawn.
        schedule: of the training.
        temperature: T of the metric.
        regularisation: lambda of the metric.
        kinds: number of models.
        condition_keys: key of the records that holds an image's kind; none for one model.
        places: samples a kind that a batch may hold; further ones are left out.
        subjects: training samples.
        centroids: of them, at most so many are of one kind.
        density: normalising flow of the latents, or None.
    """

    net: MetricVae
    settings: PlayerSettings
    content: Content
    bound: Bound
    sampling: Sampling
    schedule: Schedule
    temperature: float | int
    regularisation: float | int
    kinds: int
    condition_keys: tuple[str, ...]
    places: int
    subjects: int
    centroids: int
    density: CouplingFlow | None = None

    def players(self) -> Mapping[str, PlayerSettings]:
        """The VAEs and, where there is one, the density of their latents."""
        names = (PLAYER,) if self.density is None else (PLAYER, DENSITY)
        return dict.fromkeys(names, self.settings)

    def init(self, key: PRNGKeyArray, batch: Batch) -> TrainState:
        """Fresh parameters of every kind; no sample has a centroid."""
        del batch
        init_key, density_key, run_key = jax.random.split(key, 3)
        x = jnp.zeros((1, *self.net.shape, self.content.total))
        params = jax.vmap(lambda k: self.net.init(k, x)["params"])(
            jax.random.split(init_key, self.kinds)
        )
        n, d = self.subjects, self.net.latents
        metric = {
            "centroids": jnp.full((n, d), NOWHERE),
            "factors": jnp.zeros((n, d, d)),
            "kind": jnp.full(n, -1, jnp.int32),
        }
        best = {}
        if self.schedule.patience:
            start = {"loss": jnp.asarray(jnp.inf), "sum": jnp.zeros(()), "waited": jnp.zeros(())}
            best = {"best": {"params": params, **start}}
        variables = {PLAYER: {"params": params, "metric": metric, **best}}
        if self.density is not None:
            variables[DENSITY] = jax.vmap(lambda k: self.density.init(k, jnp.zeros((1, d))))(
                jax.random.split(density_key, self.kinds)
            )
        return create_state(run_key, variables, self.players())

    def objectives(self) -> tuple[Objective | Update, ...]:
        """The bound; the latents' density; the metric of the training samples."""
        loss, density = functools.partial(bound_loss, self), functools.partial(density_loss, self)
        parts: list[Objective | Update] = [Objective("bound", (PLAYER,), loss)]
        if self.density is not None:
            parts.append(Objective("density", (DENSITY,), density))
        return (*parts, Update("metric", (PLAYER,), functools.partial(keep_metric, self)))

    def prepare(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        """Nothing is random."""
        del keys
        return batch

    @property
    def levels(self) -> Mapping[str, int]:
        """One latent level."""
        return {"z": self.net.latents}

    def target(self, batch: Batch) -> Float[Array, " b *s c"]:
        """Images, then one-hot labels, as far as they are modelled."""
        return self.content.of(batch)

    def encode_levels(
        self, variables: PlayerVariables, batch: Batch
    ) -> dict[str, tuple[Float[Array, " b _"], Float[Array, " b _"]]]:
        """Mean and log-variance of the posterior of each sample, by the model of its kind."""
        x = self.target(batch)
        places = self.group(batch, x.shape[0])
        found = self.encode(variables[PLAYER]["params"], to_groups(places, x))
        return {"z": tuple(from_groups(places, each) for each in found)}

    def show(
        self, variables: PlayerVariables, keys: Key[Array, " b"], batch: Batch
    ) -> dict[str, Float[Array, " b *s c"]]:
        """Samples, what is kept of them, and draws of the normal prior, first channel."""
        noise = {"z": jax.vmap(lambda k: jax.random.normal(k, (self.net.latents,)))(keys)}
        mean = {"z": self.encode_levels(variables, batch)["z"][0]}
        rows = {
            "samples": self.target(batch),
            "reconstructions": self.decode_levels(variables, mean, batch),
            "prior": self.decode_levels(variables, noise, batch),
        }
        return {name: row[..., :1] for name, row in rows.items()}

    def encode(
        self, params: Params, x: Float[Array, "k n *s c"]
    ) -> tuple[Float[Array, "k n d"], Float[Array, "k n d"]]:
        """Mean and log-variance of the posteriors of samples by kind."""
        return jax.vmap(lambda p, x: self.net.apply({"params": p}, x, method="encode"))(params, x)

    def factors(self, params: Params, x: Float[Array, "k n *s c"]) -> Float[Array, "k n d d"]:
        """Factors of the metric of samples by kind; 0 without a metric network."""
        if not self.net.metric:
            return jnp.zeros((*x.shape[:2], self.net.latents, self.net.latents))
        return jax.vmap(lambda p, x: self.net.apply({"params": p}, x, method="factors"))(params, x)


def build(config: Any, info: DatasetInfo) -> Rhvae:
    """The system of a configuration for a data set.

    Raises:
        ValueError: settings that do not fit each other or the data.
    """
    model, rate = config.model, config.optimizer
    subjects = model.subjects or config.data.train
    if subjects < 1 or len(info.case_names) > subjects:
        raise ValueError(
            f"model.subjects={model.subjects} for {len(info.case_names)} training samples: give "
            "their number, each has a centroid"
        )
    if model.kinds < 1 or (model.kinds > 1 and not model.condition):
        raise ValueError(
            f"model.kinds={model.kinds}, model.condition='{model.condition}': several kinds need "
            "the key of the records that tells them apart"
        )
    channels, classes = len(info.channel_names), info.num_classes
    content = Content(model.content, channels, classes, model.likelihood, model.deviation)
    bound = Bound(**config.criterion)
    per_kind = model.per_kind or -(-subjects // model.kinds)
    schedule = schedule_of(config, subjects)
    steps = schedule.learning_rate(rate.learning_rate)
    return Rhvae(
        net=MetricVae(
            shape=tuple(int(n) for n in config.data.shape),
            outputs=content.total,
            latents=model.latents,
            hidden=model.hidden,
            features=tuple(model.features),
            metric=bound.geometry == "learned",
        ),
        settings=PlayerSettings(optimizer(rate.kind, steps, clip_norm=rate.clip_norm or None)),
        content=content,
        bound=bound,
        sampling=Sampling(**config.sampling),
        schedule=schedule,
        temperature=model.temperature,
        regularisation=model.regularisation,
        kinds=model.kinds,
        condition_keys=(model.condition,) if model.condition else (),
        places=per_kind if config.batch_size >= subjects else config.batch_size,
        subjects=subjects,
        centroids=per_kind,
        density=CouplingFlow(model.latents, model.density_layers) if model.density_layers else None,
    )
