"""Linear prediction of a volume from planes: principal components and ridge regression.

Volumes are coordinates along the principal components of the training volumes; the coordinates are
predicted from coarse planes by ridge regression, with the penalty of the least leave-one-out error
(in closed form, Golub, Heath & Wahba, Technometrics 21, 1979). Without components the prediction is
the mean shape, the least that any model must beat.

One step on the whole training set: ``batch_size`` must be its number of cases.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, PRNGKeyArray

from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.ops.collectives import all_gather
from jaxmedgen.ops.upsample import average_pool
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.shape.hcvae_parts import task
from jaxmedgen.systems.shape.hcvae_task import FromPlanes, PlaneTask, onto_mask
from jaxmedgen.train.objectives import LossInputs, PlayerSettings, Update, UpdateOutputs
from jaxmedgen.train.state import TrainState, create_state
from jaxmedgen.types import Batch

PLAYER = "linear"
PENALTIES = tuple(10.0**k for k in range(-2, 5))
"""Tried for the ridge regression, times the number of features."""


@dataclasses.dataclass(frozen=True)
class LinearVolume(FromPlanes):
    """Principal components of volumes, predicted from planes.

    Attributes:
        task: planes and volume.
        components: kept; 0 for the mean shape.
        pixels: an axis of the coarse planes.
    """

    task: PlaneTask
    components: int = 32
    pixels: int = 8

    @property
    def views(self) -> tuple[int, ...]:
        """Numbers of the views that are looked at."""
        return self.task.order

    @property
    def _stored(self) -> int:
        """The mean shape has one component of zeros: checkpoints hold no empty arrays."""
        return max(self.components, 1)

    def players(self) -> Mapping[str, PlayerSettings]:
        """One player, which has no optimiser."""
        return {PLAYER: PlayerSettings(optax.identity())}

    def init(self, key: PRNGKeyArray, batch: Batch) -> TrainState:
        """An empty model; the step fills it in."""
        del batch
        features = self.pixels**2 * len(self.views)
        params = {
            "mean": jnp.zeros(self.task.shape),
            "components": jnp.zeros((self._stored, *self.task.shape)),
            "feature_mean": jnp.zeros(features),
            "weights": jnp.zeros((features, self._stored)),
        }
        return create_state(key, {PLAYER: {"params": params}}, self.players())

    def objectives(self) -> tuple[Update, ...]:
        """Components and regression."""
        return (Update("regression", (PLAYER,), self._fit),)

    def prepare(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        """Nothing: the whole training set is looked at once, as it is."""
        del keys
        return batch

    def build_volume(
        self,
        variables: PlayerVariables,
        planes: Float[Array, " b *p v"],
        available: Float[Array, " b v"],
    ) -> Float[Array, " b *s"]:
        """The mean volume moved along the components, cut off at 0 and 1."""
        params = variables[PLAYER]["params"]
        centred = self._features(planes, available) - params["feature_mean"]
        moved = jnp.tensordot(centred @ params["weights"], params["components"], 1)
        return jnp.clip(params["mean"] + moved, 0, 1)

    def _features(self, planes, available):
        planes = jnp.where(available[:, None, None] > 0, planes, 0.0)[..., jnp.asarray(self.views)]
        coarse = average_pool(planes, planes.shape[1] // self.pixels)
        return coarse.reshape(coarse.shape[0], -1)

    def _fit(self, inputs: LossInputs) -> UpdateOutputs:
        batch = inputs.batch
        volume = all_gather(onto_mask(batch))
        features = all_gather(self._features(batch["planes"], batch["available"]))
        count, mean = volume.shape[0], volume.mean(0)
        centred = (volume - mean).reshape(count, -1)
        # There are fewer volumes than voxels: eigenvectors of the Gram matrix.
        values, vectors = jnp.linalg.eigh(centred @ centred.T)
        kept = jnp.maximum(values[::-1][: self._stored], 1e-6) * (self.components > 0)
        vectors = vectors[:, ::-1][:, : self._stored]
        components = (vectors.T @ centred) / jnp.sqrt(jnp.maximum(kept, 1e-6))[:, None]
        coordinates = vectors * jnp.sqrt(kept)
        feature_mean = features.mean(0)
        weights, penalty = ridge(features - feature_mean, coordinates)
        params = {
            "mean": mean,
            "components": (components * (self.components > 0)).reshape(-1, *mean.shape),
            "feature_mean": feature_mean,
            "weights": weights,
        }
        explained = kept.sum() / jnp.maximum(values.sum(), 1e-12)
        metrics = {"explained_variance": explained, "penalty": penalty, "loss": 1 - explained}
        return UpdateOutputs(params={PLAYER: params}, metrics=metrics)


def ridge(
    features: Float[Array, " n f"], targets: Float[Array, " n t"]
) -> tuple[Float[Array, " f t"], Float[Array, ""]]:
    """Ridge regression without intercept, with the penalty of the least leave-one-out error.

    With the singular value decomposition ``F = U S V'`` the hat matrix of a penalty p is
    ``U diag(S^2 / (S^2 + p)) U'``; a left-out residual is the residual over one minus its diagonal,
    less the row's share of the mean that was taken off (1/n).

    Args:
        features: centred.
        targets: centred.

    Returns:
        Weights and the chosen penalty.
    """
    count, width = features.shape
    u, s, vt = jnp.linalg.svd(features, full_matrices=False)
    projected = u.T @ targets
    penalties = width * jnp.asarray(PENALTIES)

    def error(penalty):
        share = s**2 / (s**2 + penalty)
        residual = targets - u @ (share[:, None] * projected)
        leverage = (u**2) @ share + 1 / count
        return jnp.sum((residual / (1 - leverage)[:, None]) ** 2)

    errors = jnp.stack([error(penalty) for penalty in penalties])
    best = penalties[jnp.argmin(errors)]
    return vt.T @ ((s / (s**2 + best))[:, None] * projected), best


def build(config: Any, info: DatasetInfo) -> LinearVolume:
    """The system of a configuration for a data set.

    Raises:
        ValueError: fewer cases than components, or planes that do not divide.
    """
    count, pixels = config.model.components, config.model.pixels
    if config.batch_size <= count:
        raise ValueError(
            f"batch_size={config.batch_size} cases give no {count} components: set batch_size to "
            "the number of training cases"
        )
    found = task(config, info)
    if found.plane_shape[0] % pixels:
        raise ValueError(
            f"model.pixels={pixels} does not divide planes of {found.plane_shape}: choose a divisor"
        )
    return LinearVolume(found, count, pixels)
