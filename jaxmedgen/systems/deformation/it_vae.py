"""IT-VAE: a variational autoencoder that infers a spatial transformation (VITAE).

Appearance and perspective are told apart without labels: one latent vector for the image, one for
the map that it is seen through (Detlefsen & Hauberg, "Explicit disentanglement of appearance and
perspective in generative models", NeurIPS 2019). As augmentation, deformations are drawn from the
population's own variability (Middleton, Pai, Nielsen & Sommer); with a template in place of the
appearance it registers a group of images.

All networks are trained by one bound,
``E_q[log p(x|z_A, z_P)] - w KL(q(z_P|x) || N(0, I)) - w KL(q(z_A|x, z_P) || N(0, I))``, with
``w = beta min(step / warm_up, 1)``. While the weight rises, the output's variance is fixed: a
learned one would explode or collapse the bound.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from jaxmedgen.augment.latent import LatentAugmentation, LatentMode
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.losses.variational import importance_weighted_bound, per_sample, warm_up
from jaxmedgen.nets.vitae import Posterior, Reconstruction, Vitae
from jaxmedgen.ops.deformable_transformers import transformer
from jaxmedgen.ops.fields import identity_grid
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.deformation import vitae_bound as terms
from jaxmedgen.systems.deformation.vitae_bound import Criterion
from jaxmedgen.train.objectives import LossInputs, LossOutputs, Objective, PlayerSettings
from jaxmedgen.train.players import player_settings
from jaxmedgen.train.state import TrainState, create_state
from jaxmedgen.types import Batch

PLAYER = "vae"


@dataclasses.dataclass(frozen=True)
class ItVae:
    """A transformational autoencoder with its training criterion.

    Attributes:
        net: the model.
        settings: optimiser and weight averaging.
        criterion: what is maximised.
        stochastic: False takes posterior means everywhere (deforming autoencoder).
        ramp: whether the deformable part of the map rises over the warm-up, after the linear one.
    """

    net: Vitae
    settings: PlayerSettings
    criterion: Criterion
    stochastic: bool = True
    ramp: bool = False

    def players(self) -> Mapping[str, PlayerSettings]:
        """One player: both encoders and both decoders."""
        return {PLAYER: self.settings}

    def init(self, key: PRNGKeyArray, batch: Batch) -> TrainState:
        """Fresh parameters; the batch gives shapes only."""
        init_key, run_key = jax.random.split(key)
        image = jnp.zeros_like(batch["image"][:1], dtype=jnp.float32)
        variables = self.net.init(init_key, image, jnp.zeros((1, self.latents)))
        return create_state(run_key, {PLAYER: variables}, self.players())

    def objectives(self) -> tuple[Objective, ...]:
        """The negative bound."""
        return (Objective("bound", (PLAYER,), self._loss),)

    def prepare(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        """Nothing: the population's own variability is what is learned."""
        del keys
        return batch

    @property
    def latents(self) -> int:
        """Dimensions of z_P and z_A together."""
        return self.net.perspective + self.net.appearance

    def bounds(
        self,
        variables: PlayerVariables,
        keys: Key[Array, " b"],
        image: Float[Array, " b *s c"],
        samples: int = 1,
    ) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
        """ELBO (mean over the draws) and importance-weighted bound of ``log p(x)``, in nats.

        Args:
            variables: by player.
            keys: one a sample.
            image: the data.
            samples: draws; one at a time, so memory does not grow with them.
        """

        def draw(number):
            noise = self._noise(jax.vmap(lambda key: jax.random.fold_in(key, number))(keys))
            found = self.net.apply(variables[PLAYER], image, noise)
            likelihood = self._likelihood(image, found, self.criterion.warm_up)
            divergence = sum(map(per_sample, terms.divergences(found).values()))
            return likelihood - divergence, terms.log_weight(likelihood, found, 1.0)

        elbo, weighted = jax.lax.map(draw, jnp.arange(samples))
        return elbo.mean(0), importance_weighted_bound(weighted)

    def encode(
        self, variables: PlayerVariables, image: Float[Array, " b *s c"]
    ) -> tuple[Posterior | None, Posterior | None]:
        """Posteriors of z_P and of z_A (given the mean of z_P); None where there is none."""
        found = self._means(variables, image)
        return found.perspective, found.appearance

    def perspectives(self, variables: PlayerVariables, image: Float[Array, " b *s c"]) -> Posterior:
        """Posteriors of z_P: what images lend to those that are deformed.

        Raises:
            ValueError: the model has no transformer.
        """
        self._need_transformer()
        return self.net.apply(variables[PLAYER], image, method="encode_perspective")

    def reconstruct(
        self, variables: PlayerVariables, image: Float[Array, " b *s c"]
    ) -> Float[Array, " b *s c"]:
        """The image of the posterior means."""
        return self._means(variables, image).mean

    def parameters(
        self, variables: PlayerVariables, image: Float[Array, " b *s c"]
    ) -> Float[Array, " b k"]:
        """Parameters of each image's map, at the mean of z_P.

        Raises:
            ValueError: the model has no transformer.
        """
        z = self.perspectives(variables, image).mean
        return self.net.apply(variables[PLAYER], z, method="decode_perspective")

    def align(
        self,
        variables: PlayerVariables,
        image: Float[Array, " b *s c"],
        centre: Float[Array, " k"] | float | int = 0.0,
    ) -> tuple[Float[Array, " b *s n"], Float[Array, " b *s n"]]:
        """Groupwise registration: displacements between each image and the common frame.

        Args:
            variables: by player.
            image: the group.
            centre: mean of `parameters` over the group, taken off: a constant map may move between
                template and parameters, so that the frame is known only up to it.

        Returns:
            Two fields in voxels. ``warp(image, first)`` shows the image in the common frame,
            ``warp(template, second)`` shows the template as the image has it.

        Raises:
            ValueError: the model has no transformer.
        """
        parameters = self.parameters(variables, image) - centre
        observed, canonical = self.net.transformer.pair(parameters, self.net.shape)
        grid = identity_grid(self.net.shape)
        return canonical - grid, observed - grid

    def augmentation(
        self,
        variables: PlayerVariables,
        posterior: Posterior,
        mode: LatentMode,
        **settings: Any,
    ) -> LatentAugmentation:
        """Random deformations of the population that the model was trained on.

        Args:
            variables: by player.
            posterior: of z_P of the training subjects (`encode`).
            mode: how z_P is drawn.
            settings: further fields of `LatentAugmentation`.

        Raises:
            ValueError: the model has no transformer.
        """
        self._need_transformer()

        def encode(image):
            found = self.perspectives(variables, image)
            return found.mean, found.log_variance

        def decode(z):
            return self.net.apply(variables[PLAYER], z, method="decode_perspective")

        maps, means, spread = self.net.transformer, posterior.mean, posterior.log_variance
        return LatentAugmentation(encode, decode, maps, means, spread, mode, **settings)

    def deform(
        self,
        variables: PlayerVariables,
        keys: Key[Array, " b"],
        image: Float[Array, " b *s c"],
        label: Int[Array, " b *s"],
        lenders: Posterior | None = None,
    ) -> tuple[Float[Array, " b *s c"], Int[Array, " b *s"]]:
        """The given subjects, each in the perspective of another one, with their labels.

        The others are those of `lenders` (`perspectives`), the given ones among them, or these
        alone: then each may be given once only, or it might meet itself.
        """
        lenders = self.perspectives(variables, image) if lenders is None else lenders
        mode = "mixed" if len(lenders.mean) > 1 else "instance"
        return self.augmentation(variables, lenders, mode, probability=1)(keys, image, label)

    def _need_transformer(self) -> None:
        if self.net.transformer is None:
            raise ValueError("this VAE has no transformer: choose arm=c-vitae or u-vitae")

    def _means(self, variables, image) -> Reconstruction:
        noise = jnp.zeros((image.shape[0], self.latents))
        return self.net.apply(variables[PLAYER], image, noise)

    def _noise(self, keys):
        noise = jax.vmap(lambda key: jax.random.normal(key, (self.latents,)))(keys)
        return noise if self.stochastic else jnp.zeros_like(noise)

    def _likelihood(self, image, found, step):
        return terms.log_likelihood(self.criterion, self.net.likelihood, image, found, step)

    def _loss(self, inputs: LossInputs) -> tuple[Float[Array, ""], LossOutputs]:
        criterion, image = self.criterion, inputs.batch["image"]
        rise = warm_up(inputs.step, criterion.warm_up)
        weight = criterion.beta * rise

        def draw(number):
            keys = jax.vmap(lambda key: jax.random.fold_in(key, number))(inputs.keys)
            found, updated = self.net.apply(
                inputs.variables[PLAYER],
                image,
                self._noise(keys),
                train=True,
                strength=rise if self.ramp else 1.0,
                mutable=["batch_stats"],
            )
            likelihood = self._likelihood(image, found, inputs.step)
            value = likelihood - weight * terms.weighted_divergence(criterion, found)
            weighted = terms.log_weight(likelihood, found, weight)
            extra = terms.penalties(criterion, self.net.transformer, found, rise)
            divergence = terms.divergences(found)
            metrics = {f"kl_{name}": kl.sum(-1).mean() for name, kl in divergence.items()}
            metrics["elbo"] = likelihood.mean() - sum(metrics.values())
            metrics["log_likelihood"] = likelihood.mean()
            return value, weighted, extra, metrics, updated

        if criterion.samples == 1:
            drawn = jax.tree.map(lambda x: x[None], draw(0))
        else:
            drawn = jax.lax.map(draw, jnp.arange(criterion.samples))
        value, weighted, extra, metrics, updated = drawn
        iwae = criterion.bound == "iwae"
        bound = importance_weighted_bound(weighted) if iwae else value.mean(0)
        metrics, updated = jax.tree.map(lambda x: x.mean(0), (metrics, updated))
        outputs = LossOutputs(jax.lax.stop_gradient(metrics), {PLAYER: updated})
        return extra.mean() - bound.mean(), outputs


def build(config: Any, info: DatasetInfo) -> ItVae:
    """The system of a configuration for a data set.

    Raises:
        ValueError: settings that do not fit each other or the data.
    """
    shape = tuple(config.patch_size) or tuple(config.data.shape)
    if len(shape) != len(info.spacing):
        raise ValueError(f"data.shape={shape} for data of {len(info.spacing)} axes: give each size")
    model = config.model
    family = None
    if model.transformer:
        cells = tuple(model.cells)
        family = transformer(model.transformer, len(shape), grid=model.grid, cells=cells)
    net = Vitae(
        shape=shape,
        channels=len(info.channel_names) or 1,
        transformer=family,
        perspective=model.perspective if family else 0,
        appearance=model.appearance,
        conditional=model.conditional,
        likelihood=model.likelihood,
        architecture=model.architecture,
        features=tuple(model.features),
        padding="constant" if model.get("zero_padding", False) else "border",
    )
    count = len(info.case_names) or config.data.train or 1
    return ItVae(
        net=net,
        settings=player_settings(config.optimizer, config.steps),
        criterion=terms.criterion(dict(config.criterion), count, family, shape),
        stochastic=model.stochastic,
        ramp=model.ramp,
    )
