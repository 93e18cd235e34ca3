"""TL-Net for volumes from planes: an autoencoder whose embedding a second network predicts.

Three stages (Girdhar, Fouhey, Rodriguez & Gupta, ECCV 2016, section 3.3), here as learning rates
that are zero outside of their stages, so that one run has all three:

    1  BCE(D(E(X)), X)                              autoencoder
    2  |R(Y) - sg(E(X))|^2                          regressor
    3  BCE(D(E(X)), X) + w |R(Y) - E(X)|^2          both

At test D(R(Y)) is the volume. ``w = 1/1500`` beside a cross-entropy summed over voxels is the ratio
of the reference implementation's loss weights.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.losses.reconstruction import reconstruction_loss
from jaxmedgen.nets.volume_from_planes import PlaneRegressor, VolumeAutoencoder
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.shape.hcvae_parts import coding, player, task
from jaxmedgen.systems.shape.hcvae_task import FromPlanes, PlaneTask, onto_mask
from jaxmedgen.train.objectives import LossInputs, LossOutputs, Objective, PlayerSettings
from jaxmedgen.train.state import TrainState, create_state
from jaxmedgen.types import Batch

AUTOENCODER, REGRESSOR = "autoencoder", "regressor"


@dataclasses.dataclass(frozen=True)
class TlNet(FromPlanes):
    """Autoencoder and regressor with their stages.

    Attributes:
        autoencoder: of the volume.
        regressor: of the planes.
        task: planes and volume.
        optimisers: settings by player, whose rates follow the stages.
        stages: first step of the second and of the third stage.
        weight: w of the embedding's distance in the third stage.
    """

    autoencoder: VolumeAutoencoder
    regressor: PlaneRegressor
    task: PlaneTask
    optimisers: Mapping[str, PlayerSettings]
    stages: tuple[int, int]
    weight: float | int = 1 / 1500

    @property
    def views(self) -> tuple[int, ...]:
        """Numbers of the views that are looked at."""
        return tuple(self.regressor.planes.views)

    def players(self) -> Mapping[str, PlayerSettings]:
        """Autoencoder and regressor."""
        return self.optimisers

    def init(self, key: PRNGKeyArray, batch: Batch) -> TrainState:
        """Fresh parameters, of the shapes that the networks were built for."""
        del batch
        keys = jax.random.split(key, 3)
        planes, available, volume = self.task.example()
        variables = {
            AUTOENCODER: self.autoencoder.init(keys[0], volume, True),
            REGRESSOR: self.regressor.init(keys[1], planes, available, True),
        }
        return create_state(keys[2], variables, self.players())

    def objectives(self) -> tuple[Objective, ...]:
        """One loss that changes with the stage."""
        return (Objective("embedding", (AUTOENCODER, REGRESSOR), self._loss),)

    def build_volume(
        self,
        variables: PlayerVariables,
        planes: Float[Array, " b *p v"],
        available: Float[Array, " b v"],
    ) -> Float[Array, " b *s"]:
        """Probabilities of the decoded, predicted embedding."""
        code = self.regressor.apply(variables[REGRESSOR], planes, available, False)
        logits = self.autoencoder.apply(variables[AUTOENCODER], code, method="decode")
        return jax.nn.sigmoid(logits)

    def show(
        self, variables: PlayerVariables, keys: Key[Array, " b"], batch: Batch
    ) -> dict[str, Float[Array, " b *s c"]]:
        """Sections of true volumes, of their reconstructions and of those built from planes."""
        del keys
        logits, _ = self.autoencoder.apply(variables[AUTOENCODER], onto_mask(batch), False)
        built = self.build_volume(variables, batch["planes"], jnp.ones_like(batch["available"]))
        return self.task.pictures(
            batch, {"autoencoder": jax.nn.sigmoid(logits), "all_views": built}
        )

    def _loss(self, inputs: LossInputs) -> tuple[Float[Array, ""], LossOutputs]:
        batch, volume = inputs.batch, onto_mask(inputs.batch)
        variables = inputs.variables
        # The second stage leaves the autoencoder as it is, its running statistics too.
        frozen = stage(inputs.step, self.stages) == 1
        (logits, code), moved = self.autoencoder.apply(
            variables[AUTOENCODER], volume, True, mutable=["batch_stats"]
        )
        kept = {name: variables[AUTOENCODER][name] for name in moved}
        moved = jax.tree.map(lambda old, new: jnp.where(frozen, old, new), kept, moved)
        predicted, updated = self.regressor.apply(
            variables[REGRESSOR],
            batch["planes"],
            batch["available"],
            True,
            mutable=["batch_stats"],
        )
        fit = reconstruction_loss("bce", volume[..., None], logits[..., None])
        target = jnp.where(frozen, jax.lax.stop_gradient(code), code)
        distance = jnp.sum((predicted - target) ** 2, -1).mean()
        terms = jnp.stack([fit, distance, fit + self.weight * distance])
        loss = terms[stage(inputs.step, self.stages)]
        metrics = {"reconstruction": fit, "embedding_distance": distance}
        outputs = LossOutputs(
            jax.lax.stop_gradient(metrics), {AUTOENCODER: moved, REGRESSOR: updated}
        )
        return loss, outputs


def stage(step: Int[Array, ""] | int, stages: tuple[int, int]) -> Int[Array, ""]:
    """0, 1 or 2: the stage of a step."""
    return jnp.sum(jnp.asarray(step) >= jnp.asarray(stages))


def build(config: Any, info: DatasetInfo) -> TlNet:
    """The system of a configuration for a data set.

    Raises:
        ValueError: stages that do not fit the run.
    """
    stages = tuple(config.criterion.stages)
    if len(stages) != 2 or not 0 < stages[0] < stages[1] < config.steps:
        raise ValueError(
            f"criterion.stages={stages} of steps={config.steps}: give the first step of the second "
            "and of the third stage, rising and within the run"
        )
    parts, latents = coding(config), sum(config.model.latents)
    return TlNet(
        autoencoder=VolumeAutoencoder(parts["volume"], parts["decoder"], latents),
        regressor=PlaneRegressor(parts["planes"], latents, config.net.hidden),
        task=task(config, info),
        optimisers={
            AUTOENCODER: player(config, lambda step: (stage(step, stages) != 1) * 1.0),
            REGRESSOR: player(config, lambda step: (stage(step, stages) != 0) * 1.0),
        },
        stages=stages,
        weight=config.criterion.embedding_weight,
    )
