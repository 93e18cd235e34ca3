"""Principal components of images or masks, plain or probabilistic: the linear model of shape.

Latent variables are coordinates in units of their deviations, so that the prior is N(0, I) as that
of a VAE. Sources are in `ops.principal_components`. One step on the whole training set:
``batch_size`` must be its number of images.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, PRNGKeyArray

from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.ops import principal_components as pc
from jaxmedgen.ops.collectives import all_gather
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.train.objectives import LossInputs, PlayerSettings, Update, UpdateOutputs
from jaxmedgen.train.state import TrainState, create_state
from jaxmedgen.types import Batch

PLAYER = "components"
LEVEL = "z"
KINDS = ("pca", "ppca")


@dataclasses.dataclass(frozen=True)
class ComponentModel:
    """A linear model of images.

    Attributes:
        shape: of the images, channels included.
        latents: components at most.
        kind: ``pca`` or ``ppca``.
        share: of the variance; components beyond it are left out (``pca``).
        limit: largest deviation of a drawn coordinate.
        masks: whether the data are the label maps, a channel a class, and not the images.
        classes: label values, where `masks`.
    """

    shape: tuple[int, ...]
    latents: int = 16
    kind: str = "pca"
    share: float | int = 0.95
    limit: float | int = 3.0
    masks: bool = False
    classes: int = 2

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"model.kind='{self.kind}': choose one of {', '.join(KINDS)}")

    @property
    def levels(self) -> Mapping[str, int]:
        """One latent level."""
        return {LEVEL: self.latents}

    def players(self) -> Mapping[str, PlayerSettings]:
        """One player, which has no optimiser."""
        return {PLAYER: PlayerSettings(optax.identity())}

    def init(self, key: PRNGKeyArray, batch: Batch) -> TrainState:
        """An empty model; the step fills it in."""
        del batch
        size = math.prod(self.shape)
        params = {
            "mean": jnp.zeros(size),
            "components": jnp.zeros((self.latents, size)),
            "eigenvalues": jnp.ones(self.latents),
            "total": jnp.ones(()),
        }
        return create_state(key, {PLAYER: {"params": params}}, self.players())

    def objectives(self) -> tuple[Update, ...]:
        """The eigenvectors of the training images' covariance."""
        return (Update("components", (PLAYER,), self._fit),)

    def prepare(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        """Nothing is random."""
        del keys
        return batch

    def target(self, batch: Batch) -> Float[Array, " b *s c"]:
        """The data: images, or masks with a channel a class."""
        if self.masks:
            return jax.nn.one_hot(batch["label"], self.classes)[..., 1:]
        return batch["image"].astype(jnp.float32)

    def encode_levels(
        self, variables: PlayerVariables, batch: Batch
    ) -> dict[str, tuple[Float[Array, " b d"], Float[Array, " b d"]]]:
        """Mean and log-variance of the posterior; that of plain components is narrow, 1e-8."""
        x = self.target(batch).reshape(-1, variables[PLAYER]["params"]["mean"].size)
        model = self._model(variables)
        if self.kind == "ppca":
            mean, variance = model.posterior(x)
            return {LEVEL: (mean, jnp.broadcast_to(jnp.log(variance), mean.shape))}
        scale = jnp.where(model.eigenvalues > 0, model.eigenvalues, jnp.inf)  # 0 if left out
        z = model.encode(x) / jnp.sqrt(scale)
        return {LEVEL: (z, jnp.full_like(z, jnp.log(1e-8)))}

    def prior_levels(
        self, variables: PlayerVariables, noise: Mapping[str, Array], batch: Batch
    ) -> dict[str, Float[Array, " b d"]]:
        """The noise, within the limit."""
        del variables, batch
        return {LEVEL: jnp.clip(noise[LEVEL], -self.limit, self.limit)}

    def decode_levels(
        self, variables: PlayerVariables, latents: Mapping[str, Array], batch: Batch
    ) -> Float[Array, " b *s c"]:
        """The mean image and the components' sum; masks may leave [0, 1]."""
        del batch
        z, model = latents[LEVEL], self._model(variables)
        x = model.decode(z) if self.kind == "ppca" else model.draw(z)
        return x.reshape(-1, *self.shape)

    def reconstruct_batch(
        self, variables: PlayerVariables, batch: Batch
    ) -> Float[Array, " b *s c"]:
        """The data as their latent means have them."""
        mean, _ = self.encode_levels(variables, batch)[LEVEL]
        return self.decode_levels(variables, {LEVEL: mean}, batch)

    def log_likelihood(self, variables: PlayerVariables, batch: Batch) -> Float[Array, " b"]:
        """``log p(x)`` of the probabilistic model, in nats.

        Raises:
            ValueError: plain components have none.
        """
        if self.kind != "ppca":
            raise ValueError("principal components have no likelihood: choose arm=ppca")
        return self._model(variables).log_likelihood(
            self.target(batch).reshape(-1, variables[PLAYER]["params"]["mean"].size)
        )

    def _model(self, variables):
        params = variables[PLAYER]["params"]
        model = pc.PCAShapeModel(**params)
        if self.kind == "ppca":
            return pc.probabilistic(model)
        kept = pc.components_for(model, self.share)
        return model.replace(eigenvalues=jnp.where(kept, model.eigenvalues, 0.0))

    def _fit(self, inputs: LossInputs) -> UpdateOutputs:
        x = all_gather(self.target(inputs.batch))
        model = pc.fit_principal_components(x.reshape(x.shape[0], -1), self.latents)
        params = {
            name: getattr(model, name) for name in ("mean", "components", "eigenvalues", "total")
        }
        explained = model.eigenvalues.sum() / jnp.maximum(model.total, 1e-12)
        kept = pc.components_for(model, self.share).sum().astype(jnp.float32)
        metrics = {"explained_variance": explained, "components": kept, "loss": 1 - explained}
        return UpdateOutputs(params={PLAYER: params}, metrics=metrics)


def build(config: Any, info: DatasetInfo) -> ComponentModel:
    """The system of a configuration for a data set.

    Raises:
        ValueError: fewer training images than components.
    """
    model = config.model
    if config.batch_size <= model.latents:
        raise ValueError(
            f"batch_size={config.batch_size} images give no {model.latents} components: "
            "set batch_size to the number of training images"
        )
    channels = info.num_classes - 1 if model.masks else len(info.channel_names) or 1
    return ComponentModel(
        shape=(*tuple(config.data.shape), channels),
        latents=model.latents,
        kind=model.kind,
        share=model.share,
        masks=model.masks,
        classes=info.num_classes,
    )
