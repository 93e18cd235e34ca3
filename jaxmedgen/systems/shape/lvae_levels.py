"""Latent levels of a ladder VAE of shapes: their vectors, the shapes and the classes of these.

The base class of the system, apart from what is trained.
"""

import abc
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.losses.variational import gaussian_kl
from jaxmedgen.nets.ladder import LadderOutputs, LadderVAE, ShapePredictor
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.types import Batch

VAE = "vae"
PREDICTOR = "predictor"


class ShapesOfLevels(abc.ABC):
    """A ladder and its classifier; attributes as `lvae.LadderShapeVae` has them."""

    net: LadderVAE
    predictor: ShapePredictor

    @property
    def levels(self) -> Mapping[str, int]:
        """Dimensions of the levels, topmost first."""
        count = len(self.net.latents)
        return {f"z{k}": self.net.latents[k] for k in reversed(range(count))}

    @property
    def top(self) -> str:
        """Name of the topmost level, which is classified."""
        return f"z{len(self.net.latents) - 1}"

    def target(self, batch: Batch) -> Float[Array, " b *s c"]:
        """The shapes."""
        return batch["image"]

    def posteriors(
        self, variables: PlayerVariables, image: Float[Array, " b *s c"]
    ) -> dict[str, tuple[Array, Array]]:
        """Mean and log-variance by level, along the path of means."""
        return self._encode(variables, image).posteriors

    def divergences(
        self, variables: PlayerVariables, batch: Batch
    ) -> dict[str, Float[Array, " b _"]]:
        """KL of each dimension of each level in nats, along the path of means."""
        return self._divergences(self._encode(variables, batch["image"]))

    def _divergences(self, found):
        pairs = {name: (*found.posteriors[name], *found.priors[name]) for name in self.levels}
        return {name: gaussian_kl(*pair) for name, pair in pairs.items()}

    def encode_levels(
        self, variables: PlayerVariables, batch: Batch
    ) -> dict[str, tuple[Float[Array, " b _"], Float[Array, " b _"]]]:
        """`posteriors` of a batch."""
        return self.posteriors(variables, batch["image"])

    def prior_levels(
        self, variables: PlayerVariables, noise: Mapping[str, Array], batch: Batch
    ) -> dict[str, Float[Array, " b _"]]:
        """Draws of the prior, from above."""
        del batch
        return self.net.apply(variables[VAE], noise, method="generate")

    def decode_levels(
        self, variables: PlayerVariables, latents: Mapping[str, Array], batch: Batch
    ) -> Float[Array, " b *s c"]:
        """Probabilities of the shapes of ``z0``."""
        del batch
        return self.decode(variables, latents["z0"])

    def decode(
        self, variables: PlayerVariables, z: Float[Array, " b d"]
    ) -> Float[Array, " b *s c"]:
        """Probabilities of the shapes of vectors of the lowest level."""
        return jax.nn.sigmoid(self.net.apply(variables[VAE], z, method="decode"))

    def decode_below(
        self,
        variables: PlayerVariables,
        given: Mapping[str, Array],
        noise: Mapping[str, Array] | None = None,
    ) -> Float[Array, " b *s c"]:
        """Probabilities of the shapes of some levels, the others at their priors.

        Args:
            variables: by player.
            given: vectors ``[b, d]`` by level, the topmost among them.
            noise: standard normal by level; None takes prior means.
        """
        count = given[self.top].shape[0]
        zero = {name: jnp.zeros((count, size)) for name, size in self.levels.items()}
        latents = self.net.apply(variables[VAE], noise or zero, given, method="generate")
        return self.decode(variables, latents["z0"])

    def reconstruct(
        self, variables: PlayerVariables, image: Float[Array, " b *s c"]
    ) -> Float[Array, " b *s c"]:
        """Probabilities of the shapes of the posterior means of all levels."""
        return self.decode(variables, self._encode(variables, image).latents["z0"])

    def truncated(
        self, variables: PlayerVariables, image: Float[Array, " b *s c"], levels: int
    ) -> Float[Array, " b *s c"]:
        """Reconstruction from the posterior means of the topmost levels alone.

        Lower levels are at the prior means given the levels above them.

        Args:
            variables: by player.
            image: shapes.
            levels: how many, from the top.
        """
        latents = self._encode(variables, image).latents
        names = list(self.levels)[:levels]
        return self.decode_below(variables, {name: latents[name] for name in names})

    def scores(self, variables: PlayerVariables, z: Float[Array, " b d"]) -> Float[Array, " b k"]:
        """Class scores before the softmax of vectors of the topmost level."""
        return self.predictor.apply(variables[PREDICTOR], z, False)

    def classify(
        self, variables: PlayerVariables, image: Float[Array, " b *s c"]
    ) -> Float[Array, " b k"]:
        """Class probabilities of the posterior means."""
        latents = self._encode(variables, image).latents
        return jax.nn.softmax(self.scores(variables, latents[self.top]))

    def _encode(self, variables, image) -> LadderOutputs:
        noise = {name: jnp.zeros((image.shape[0], size)) for name, size in self.levels.items()}
        return self.net.apply(variables[VAE], image, noise, False, decode=False)
