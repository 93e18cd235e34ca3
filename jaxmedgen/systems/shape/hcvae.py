"""HCVAE: a volume from two-dimensional planes through a hierarchy of latent spaces.

Planes that are registered neither to the volume nor to each other condition a VAE of the volume.
The hierarchical one has a latent level for each view, in the order in which views are available in
practice (axial, sagittal, coronal), so that a missing view leaves the levels before it alone
(Cerrolaza, Li, Biffi, Gomez, Sinclair, Matthew, Knight, Kainz & Rueckert, "3D fetal skull
reconstruction from 2DUS via deep conditional generative networks", MICCAI 2018).

    L = BCE_sum(X', X) + lambda sum_k E_{q(z_<k)} KL[q(z_k | X, z_<k, c_k) || p(z_k | z_<k, c_k)]

With one level it is the paper's conditional VAE. At test the encoder of the volume is not used.
Baselines: `hcvae_tl_net`, `hcvae_gan`, `hcvae_linear`.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.losses.reconstruction import reconstruction_loss
from jaxmedgen.losses.variational import warm_up
from jaxmedgen.nets.hierarchical_latent import HierarchicalLatent, level_divergences
from jaxmedgen.nets.volume_from_planes import PlanesToVolume
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.shape import hcvae_gan, hcvae_linear, hcvae_tl_net
from jaxmedgen.systems.shape.hcvae_parts import coding, player, task
from jaxmedgen.systems.shape.hcvae_task import DrawnFromPlanes, PlaneTask, onto_mask
from jaxmedgen.train.objectives import LossInputs, LossOutputs, Objective, PlayerSettings
from jaxmedgen.train.state import TrainState, create_state
from jaxmedgen.types import Batch

PLAYER = "vae"
RECONSTRUCTIONS = ("bce", "dice")


@dataclasses.dataclass(frozen=True)
class Hcvae(DrawnFromPlanes):
    """A conditional VAE of volumes with its training criterion.

    Attributes:
        net: the model.
        task: planes and volume.
        settings: optimiser and weight averaging.
        weight: lambda of the Kullback-Leibler term.
        warm_up: steps over which it rises linearly.
        reconstruction: ``bce`` (summed over voxels) or ``dice``.
        partial_weight: of each partial decoder's reconstruction, where there are any.
    """

    net: PlanesToVolume
    task: PlaneTask
    settings: PlayerSettings
    weight: float | int = 1.0
    warm_up: int = 0
    reconstruction: str = "bce"
    partial_weight: float | int = 0.25

    def __post_init__(self) -> None:
        if self.reconstruction not in RECONSTRUCTIONS:
            raise ValueError(
                f"criterion.reconstruction='{self.reconstruction}': choose one of "
                f"{', '.join(RECONSTRUCTIONS)}"
            )
        if self.weight < 0 or self.warm_up < 0:
            raise ValueError(
                f"criterion.weight={self.weight}, warm_up={self.warm_up}: give 0 or more"
            )

    @property
    def views(self) -> tuple[int, ...]:
        """Numbers of the views that are looked at."""
        return tuple(self.net.planes.views)

    @property
    def noise_size(self) -> int:
        """Dimensions of all levels together."""
        return sum(self.net.latent.sizes)

    def players(self) -> Mapping[str, PlayerSettings]:
        """One player: encoders, priors, posteriors and decoder."""
        return {PLAYER: self.settings}

    def init(self, key: PRNGKeyArray, batch: Batch) -> TrainState:
        """Fresh parameters, of the shape that the network was built for."""
        del batch
        init_key, run_key = jax.random.split(key)
        noise = jnp.zeros((1, self.noise_size))
        variables = self.net.init(init_key, *self.task.example(), noise, True)
        return create_state(run_key, {PLAYER: variables}, self.players())

    def objectives(self) -> tuple[Objective, ...]:
        """The negative bound."""
        return (Objective("bound", (PLAYER,), self._loss),)

    def generate(
        self,
        variables: PlayerVariables,
        planes: Float[Array, " b *p v"],
        available: Float[Array, " b v"],
        noise: Float[Array, " b _"],
    ) -> Float[Array, " b *s"]:
        """Probabilities of given noise."""
        logits = self.net.apply(variables[PLAYER], planes, available, noise, method="generate")
        return jax.nn.sigmoid(logits)

    @property
    def levels(self) -> Mapping[str, int]:
        """Dimensions of each latent level."""
        return {f"level{k}": size for k, size in enumerate(self.net.latent.sizes, start=1)}

    def target(self, batch: Batch) -> Float[Array, " b *s 1"]:
        """The volume as a mask."""
        return onto_mask(batch)[..., None]

    def encode_levels(
        self, variables: PlayerVariables, batch: Batch
    ) -> dict[str, tuple[Float[Array, " b _"], Float[Array, " b _"]]]:
        """Mean and log-variance of each level's posterior, at the means before it."""
        planes, kept = batch["planes"], batch["available"]
        found = self.net.apply(variables[PLAYER], planes, kept, onto_mask(batch), method="encode")
        return dict(zip(self.levels, found))

    def prior_levels(
        self, variables: PlayerVariables, noise: Mapping[str, Array], batch: Batch
    ) -> dict[str, Float[Array, " b _"]]:
        """Ancestral draws given the batch's planes."""
        planes, kept = batch["planes"], batch["available"]
        joined = jnp.concatenate([noise[name] for name in self.levels], -1)
        z = self.net.apply(variables[PLAYER], planes, kept, joined, method="draw")
        ends = list(itertools.accumulate(self.levels.values()))[:-1]
        return dict(zip(self.levels, jnp.split(z, ends, -1)))

    def decode_levels(
        self, variables: PlayerVariables, latents: Mapping[str, Array], batch: Batch
    ) -> Float[Array, " b *s 1"]:
        """Probabilities of latent vectors given the batch's planes."""
        planes, kept = batch["planes"], batch["available"]
        z = jnp.concatenate([latents[name] for name in self.levels], -1)
        logits = self.net.apply(variables[PLAYER], planes, kept, z, method="decode")
        return jax.nn.sigmoid(logits)[..., None]

    def _loss(self, inputs: LossInputs) -> tuple[Float[Array, ""], LossOutputs]:
        batch, volume = inputs.batch, onto_mask(inputs.batch)
        found, updated = self.net.apply(
            inputs.variables[PLAYER],
            batch["planes"],
            batch["available"],
            volume,
            self.noise(inputs.keys),
            True,
            mutable=["batch_stats"],
        )

        def misfit(logits):
            return reconstruction_loss(self.reconstruction, volume[..., None], logits[..., None])

        fit = misfit(found.logits)
        partial = sum((misfit(logits) for logits in found.partial), jnp.zeros(()))
        levels = [kl.mean() for kl in level_divergences(found.posteriors, found.priors)]
        weight = self.weight * warm_up(inputs.step, self.warm_up)
        metrics = {f"kl_level{k}": kl for k, kl in enumerate(levels, start=1)}
        metrics |= {"reconstruction": fit, "elbo": -fit - sum(levels)}
        outputs = LossOutputs(jax.lax.stop_gradient(metrics), {PLAYER: updated})
        return fit + self.partial_weight * partial + weight * sum(levels), outputs


def build(config: Any, info: DatasetInfo) -> Any:
    """The system of a configuration for a data set: HCVAE, CVAE or a baseline.

    Raises:
        ValueError: settings that do not fit each other or the data.
    """
    model = config.model
    if model.kind == "vae":
        return _build_vae(config, info)
    kinds = {"tl_net": hcvae_tl_net, "gan": hcvae_gan, "linear": hcvae_linear}
    if model.kind not in kinds:
        raise ValueError(f"model.kind='{model.kind}': choose one of vae, {', '.join(kinds)}")
    return kinds[model.kind].build(config, info)


def _build_vae(config, info):
    model, net, views = config.model, config.net, tuple(config.model.views)
    if model.hierarchical:
        levels = tuple(views[: k + 1] for k in range(len(views)))
    else:
        levels = (views,)
    sizes, work = tuple(model.latents), task(config, info)
    if len(sizes) != len(levels):
        raise ValueError(
            f"model.latents={sizes} for {len(levels)} latent level(s): give one size a level"
        )
    parts = coding(config)
    return Hcvae(
        net=PlanesToVolume(
            planes=parts["planes"],
            volume=parts["volume"],
            latent=HierarchicalLatent(sizes, net.prior_hidden, model.prior),
            decoder=parts["decoder"],
            levels=levels,
            deep=model.deep,
        ),
        task=work,
        settings=player(config),
        weight=config.criterion.weight,
        warm_up=config.criterion.warm_up,
        reconstruction=config.criterion.reconstruction,
        partial_weight=config.criterion.partial_weight,
    )
