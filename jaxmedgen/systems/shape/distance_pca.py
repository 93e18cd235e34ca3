"""Principal components of signed distance maps: the linear model of shape that a VAE must beat.

Every class is a signed distance map, cut off at a few voxels; label maps are coordinates along the
principal components of all of them, in units of their deviations (Leventon, Grimson & Faugeras,
"Statistical shape influence in geodesic active contours", CVPR 2000; several classes: Tsai et al.,
IEEE TMI 22, 2003). A decoded map takes the class of the least distance.

One step on the whole training set: ``batch_size`` must be its number of maps.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.data.stacks import label_shape
from jaxmedgen.ops.collectives import all_gather
from jaxmedgen.ops.distance import signed_distance
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.train.objectives import LossInputs, PlayerSettings, Update, UpdateOutputs
from jaxmedgen.train.state import TrainState, create_state
from jaxmedgen.types import Batch

PLAYER = "components"


@dataclasses.dataclass(frozen=True)
class DistancePca:
    """A linear model of label maps.

    Attributes:
        shape: of the label maps.
        classes: label values.
        latents: components kept.
        limit: largest distance in voxels, also that of a class that is not there.
    """

    shape: tuple[int, ...]
    classes: int
    latents: int = 16
    limit: float | int = 8.0

    def players(self) -> Mapping[str, PlayerSettings]:
        """One player, which has no optimiser."""
        return {PLAYER: PlayerSettings(optax.identity())}

    def init(self, key: PRNGKeyArray, batch: Batch) -> TrainState:
        """An empty model; the step fills it in."""
        del batch
        size = (*self.shape, self.classes)
        params = {
            "mean": jnp.zeros(size),
            "components": jnp.zeros((self.latents, *size)),
            "deviation": jnp.ones(self.latents),
        }
        return create_state(key, {PLAYER: {"params": params}}, self.players())

    def objectives(self) -> tuple[Update, ...]:
        """The eigenvectors of the training maps' covariance."""
        return (Update("components", (PLAYER,), self._fit),)

    def prepare(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        """Nothing is random."""
        del keys
        return batch

    def encode_labels(
        self, variables: PlayerVariables, label: Int[Array, " b *s"]
    ) -> tuple[Float[Array, " b d"], Float[Array, " b d"]]:
        """Coordinates in deviations; the log-variance is that of an exact model, -inf cut off."""
        params = variables[PLAYER]["params"]
        flat = (self._distances(label) - params["mean"]).reshape(label.shape[0], -1)
        z = flat @ params["components"].reshape(self.latents, -1).T / params["deviation"]
        return z, jnp.full_like(z, -20.0)

    def decode_labels(
        self, variables: PlayerVariables, z: Float[Array, " b d"]
    ) -> Int[Array, " b *s"]:
        """The class of the least distance."""
        params = variables[PLAYER]["params"]
        moved = jnp.tensordot(z * params["deviation"], params["components"], 1)
        return jnp.argmin(params["mean"] + moved, -1).astype(jnp.int32)

    def _distances(self, label):
        """Distance maps ``[b, *s, k]``, 0 midway between voxels."""
        masks = label[..., None] == jnp.arange(self.classes)
        masks = jnp.moveaxis(masks, -1, 1).reshape(-1, *self.shape)
        maps = signed_distance(masks)
        maps = jnp.clip(maps - 0.5 * jnp.sign(maps), -self.limit, self.limit)
        return jnp.moveaxis(maps.reshape(label.shape[0], self.classes, *self.shape), 1, -1)

    def _fit(self, inputs: LossInputs) -> UpdateOutputs:
        maps = all_gather(self._distances(inputs.batch["label"]))
        count = maps.shape[0]
        mean = maps.mean(0)
        centred = (maps - mean).reshape(count, -1)
        # There are fewer maps than voxels: eigenvectors of the Gram matrix.
        values, vectors = jnp.linalg.eigh(centred @ centred.T)
        kept, vectors = values[::-1][: self.latents], vectors[:, ::-1][:, : self.latents]
        safe = jnp.maximum(kept, 1e-6)
        components = (vectors.T @ centred) / jnp.sqrt(safe)[:, None]
        params = {
            "mean": mean,
            "components": components.reshape(self.latents, *mean.shape),
            "deviation": jnp.sqrt(safe / max(count - 1, 1)),
        }
        explained = kept.sum() / jnp.maximum(values.sum(), 1e-12)
        metrics = {"explained_variance": explained, "loss": 1 - explained}
        return UpdateOutputs(params={PLAYER: params}, metrics=metrics)


def build(config: Any, info: DatasetInfo) -> DistancePca:
    """The system of a configuration for a data set.

    Raises:
        ValueError: fewer training maps than components.
    """
    if config.batch_size <= config.net.latents:
        raise ValueError(
            f"batch_size={config.batch_size} maps give no {config.net.latents} components: "
            "set batch_size to the number of training maps"
        )
    return DistancePca(label_shape(config), info.num_classes, config.net.latents)
