"""Abilities of models with latent levels: they draw, name their draws and move along geodesics."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float

from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.types import Batch


@runtime_checkable
class CanGenerate(Protocol):
    """Makes images or shapes from latent vectors of one or more levels: a VAE of any kind.

    Batches hold what the data's records hold; a conditional model takes its conditions from them,
    an unconditional one only their length.
    """

    @property
    def levels(self) -> Mapping[str, int]:
        """Dimensions of each latent level, topmost first."""
        ...

    def target(self, batch: Batch) -> Float[Array, " b *s c"]:
        """What is reconstructed: values in [0, 1] or intensities."""
        ...

    def encode_levels(
        self, variables: PlayerVariables, batch: Batch
    ) -> dict[str, tuple[Float[Array, " b _"], Float[Array, " b _"]]]:
        """Mean and log-variance of each level's posterior."""
        ...

    def prior_levels(
        self, variables: PlayerVariables, noise: Mapping[str, Array], batch: Batch
    ) -> dict[str, Float[Array, " b _"]]:
        """Draws of the prior made of standard normal noise ``[b, d]`` a level; 0 for its mean."""
        ...

    def decode_levels(
        self, variables: PlayerVariables, latents: Mapping[str, Array], batch: Batch
    ) -> Float[Array, " b *s c"]:
        """Mean of the images of latent vectors ``[b, d]`` a level, as `target` has them."""
        ...


@runtime_checkable
class CanNavigate(Protocol):
    """Classifies shapes by the topmost of its latent levels, from which it decodes them."""

    @property
    def top(self) -> str:
        """Name of the topmost level."""
        ...

    def scores(self, variables: PlayerVariables, z: Float[Array, " b d"]) -> Float[Array, " b k"]:
        """Class scores before the softmax of vectors of the topmost level."""
        ...

    def decode_below(
        self,
        variables: PlayerVariables,
        given: Mapping[str, Array],
        noise: Mapping[str, Array] | None = None,
    ) -> Float[Array, " b *s c"]:
        """Shapes of the topmost level's vectors; lower levels at prior means, or drawn."""
        ...


@runtime_checkable
class CanReport(Protocol):
    """Tells how its draws of the prior came about."""

    def reported_levels(
        self, variables: PlayerVariables, noise: Mapping[str, Array], batch: Batch
    ) -> tuple[dict[str, Float[Array, " b _"]], dict[str, Float[Array, " b"]]]:
        """`CanGenerate.prior_levels`, and numbers of each draw by name."""
        ...


@runtime_checkable
class CanFollowGeodesics(Protocol):
    """Knows a better way between two latents than the straight line."""

    def check_pair(self, pair: Mapping[str, Any]) -> None:
        """Raises a ValueError for two records without a way between them."""
        ...

    def between_levels(
        self, variables: PlayerVariables, ends: Mapping[str, Array], pair: Batch, count: int
    ) -> dict[str, Float[Array, " n _"]]:
        """Latents on the way between two records' latents, ends included."""
        ...
