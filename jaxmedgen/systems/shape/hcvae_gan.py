"""A conditional 3D GAN of volumes from planes.

    G: -log D(G(Y, n), Y) + 100 BCE(G(Y, n), X)        D: standard, of sg(G)

with the cross-entropy averaged over voxels. The talk gives only the name; loss and weight are those
of pix2pix (Isola et al., CVPR 2017) and 3D-RecGAN (Yang et al., ICCVW 2017).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.losses import adversarial
from jaxmedgen.losses.reconstruction import reconstruction_loss
from jaxmedgen.nets.volume_from_planes import PlaneGenerator, VolumeJudge
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.shape.hcvae_parts import coding, player, task
from jaxmedgen.systems.shape.hcvae_task import DrawnFromPlanes, PlaneTask, onto_mask
from jaxmedgen.train.objectives import LossInputs, LossOutputs, Objective, PlayerSettings
from jaxmedgen.train.state import TrainState, create_state
from jaxmedgen.types import Batch

GENERATOR, DISCRIMINATOR = "generator", "discriminator"


@dataclasses.dataclass(frozen=True)
class VolumeGan(DrawnFromPlanes):
    """Generator and discriminator with their losses.

    Attributes:
        generator: of volumes from planes and noise.
        discriminator: of volumes with the embedding of their planes.
        task: planes and volume.
        settings: of both players.
        noise_size: length of the noise vector.
        weight: of the cross-entropy.
        kind: of the adversarial loss, see `losses.adversarial`.
    """

    generator: PlaneGenerator
    discriminator: VolumeJudge
    task: PlaneTask
    settings: PlayerSettings
    noise_size: int = 64
    weight: float | int = 100.0
    kind: str = "jsgan"

    @property
    def views(self) -> tuple[int, ...]:
        """Numbers of the views that are looked at."""
        return tuple(self.generator.planes.views)

    def players(self) -> Mapping[str, PlayerSettings]:
        """Generator and discriminator."""
        return {GENERATOR: self.settings, DISCRIMINATOR: self.settings}

    def init(self, key: PRNGKeyArray, batch: Batch) -> TrainState:
        """Fresh parameters, of the shapes that the networks were built for."""
        del batch
        keys = jax.random.split(key, 3)
        planes, available, volume = self.task.example()
        noise = jnp.zeros((1, self.noise_size))
        (_, context), variables = self.generator.init_with_output(
            keys[0], planes, available, noise, True
        )
        judge = self.discriminator.init(keys[1], volume, context)
        return create_state(keys[2], {GENERATOR: variables, DISCRIMINATOR: judge}, self.players())

    def objectives(self) -> tuple[Objective, ...]:
        """Generator, then discriminator, on the same batch."""
        return (
            Objective(GENERATOR, (GENERATOR,), self._generator_loss),
            Objective(DISCRIMINATOR, (DISCRIMINATOR,), self._discriminator_loss),
        )

    def generate(
        self,
        variables: PlayerVariables,
        planes: Float[Array, " b *p v"],
        available: Float[Array, " b v"],
        noise: Float[Array, " b _"],
    ) -> Float[Array, " b *s"]:
        """Probabilities of given noise."""
        logits, _ = self.generator.apply(variables[GENERATOR], planes, available, noise, False)
        return jax.nn.sigmoid(logits)

    def _made(self, inputs):
        return self.generator.apply(
            inputs.variables[GENERATOR],
            inputs.batch["planes"],
            inputs.batch["available"],
            self.noise(inputs.keys),
            True,
            mutable=["batch_stats"],
        )

    def _judged(self, inputs, volume, context):
        return self.discriminator.apply(
            inputs.variables[DISCRIMINATOR], volume, jax.lax.stop_gradient(context)
        )

    def _generator_loss(self, inputs: LossInputs) -> tuple[Float[Array, ""], LossOutputs]:
        volume = onto_mask(inputs.batch)
        (logits, context), updated = self._made(inputs)
        made = jax.nn.sigmoid(logits)
        cheat = adversarial.generator_loss(self.kind, self._judged(inputs, made, context))
        fit = reconstruction_loss("bce", volume[..., None], logits[..., None], "mean")
        metrics = {
            "adversarial": cheat,
            "reconstruction": fit,
            "diversity": adversarial.relative_diversity(made[..., None], volume[..., None]),
        }
        outputs = LossOutputs(jax.lax.stop_gradient(metrics), {GENERATOR: updated})
        return cheat + self.weight * fit, outputs

    def _discriminator_loss(self, inputs: LossInputs) -> tuple[Float[Array, ""], LossOutputs]:
        (logits, context), _ = self._made(inputs)
        fake = jax.lax.stop_gradient(jax.nn.sigmoid(logits))
        real = onto_mask(inputs.batch)
        verdicts = self._judged(
            inputs, jnp.concatenate([real, fake]), jnp.concatenate([context, context])
        )
        right, wrong = jnp.split(verdicts, 2)
        value = adversarial.discriminator_loss(self.kind, right, wrong)
        accuracy = adversarial.discriminator_accuracy(self.kind, right, wrong)
        return value, LossOutputs({"discriminator_accuracy": accuracy})


def build(config: Any, info: DatasetInfo) -> VolumeGan:
    """The system of a configuration for a data set."""
    parts, net = coding(config), config.net
    return VolumeGan(
        generator=PlaneGenerator(parts["planes"], parts["decoder"]),
        discriminator=VolumeJudge(tuple(net.judge), dtype=jnp.dtype(net.dtype)),
        task=task(config, info),
        settings=player(config),
        noise_size=sum(config.model.latents),
        weight=config.criterion.reconstruction_weight,
        kind=config.criterion.gan,
    )
