"""What all models of volumes from planes share: the task, its augmentation, training pictures."""

import abc
import dataclasses
from collections.abc import Collection

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxmedgen.augment.plane_views import PlaneAugmentation
from jaxmedgen.nets.plane_encoders import draw_views
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.types import Batch


@dataclasses.dataclass(frozen=True)
class PlaneTask:
    """Planes in, a volume out.

    Attributes:
        shape: of the volume.
        plane_shape: of the planes.
        channels: planes of a batch, one a view.
        order: views by how often they are acquired: the order of nested view dropout.
        dropout: as `nets.plane_encoders.draw_views`.
        augmentation: of planes and volume in training, or None.
    """

    shape: tuple[int, ...]
    plane_shape: tuple[int, ...]
    channels: int
    order: tuple[int, ...]
    dropout: str = "none"
    augmentation: PlaneAugmentation | None = None

    def __post_init__(self) -> None:
        if self.dropout not in ("none", "nested", "any"):
            raise ValueError(f"model.view_dropout='{self.dropout}': choose none, nested or any")

    def handles(self, views: Collection[int]) -> bool:
        """Whether training shows these views, of those that there are, without the others."""
        shown = [view in views for view in self.order]
        if self.dropout == "nested":
            # None after the first that is missing.
            return shown[0] and shown == sorted(shown, reverse=True)
        return any(shown) if self.dropout == "any" else all(shown)

    def example(
        self,
    ) -> tuple[Float[Array, " 1 *p v"], Float[Array, " 1 v"], Float[Array, " 1 *s"]]:
        """Planes, availability and volume of zeros, for shapes."""
        planes = jnp.zeros((1, *self.plane_shape, self.channels))
        return planes, jnp.ones((1, self.channels)), jnp.zeros((1, *self.shape))

    def prepare(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        """Augmented planes and volume; which views each sample keeps."""
        planes, label = batch["planes"], batch["label"]
        pairs = jax.vmap(jax.random.split)(keys)
        if self.augmentation is not None:
            planes, label = self.augmentation(pairs[:, 0], planes, label)
        if self.dropout == "none":
            kept = batch["available"]
        else:
            kept = batch["available"] * jax.vmap(self._drawn)(pairs[:, 1])
            # A case may lack the very views that were drawn.
            kept = jnp.where(kept.any(1, keepdims=True), kept, batch["available"])
        return {**batch, "planes": planes, "label": label, "available": kept}

    def _drawn(self, key):
        kept = draw_views(key, tuple(range(len(self.order))), self.dropout)
        return jnp.ones(self.channels).at[jnp.asarray(self.order)].set(kept)

    def pictures(
        self, batch: Batch, volumes: dict[str, Float[Array, " b *s"]]
    ) -> dict[str, Float[Array, " b *s c"]]:
        """The middle sagittal section of true and built volumes, the first plane above them."""
        middle = self.shape[0] // 2
        shown = {"plane": batch["planes"][..., self.order[0], None]}
        truth = {"truth": batch["label"].astype(jnp.float32)}
        return shown | {name: x[:, middle, ..., None] for name, x in (truth | volumes).items()}


class FromPlanes:
    """A model of volumes from planes.

    Attributes:
        task: planes and volume.
    """

    task: PlaneTask

    def handles(self, views: Collection[int]) -> bool:
        """Whether it was trained to do with these views alone."""
        return self.task.handles(views)

    def prepare(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        """Augmentation and view dropout."""
        return self.task.prepare(batch, keys)


class DrawnFromPlanes(FromPlanes, abc.ABC):
    """A model that makes many volumes of the same planes, by normal noise."""

    @property
    @abc.abstractmethod
    def noise_size(self) -> int:
        """Numbers of noise that a volume takes."""

    @abc.abstractmethod
    def generate(
        self,
        variables: PlayerVariables,
        planes: Float[Array, " b *p v"],
        available: Float[Array, " b v"],
        noise: Float[Array, " b _"],
    ) -> Float[Array, " b *s"]:
        """Probabilities of given noise."""

    def build_volume(
        self,
        variables: PlayerVariables,
        planes: Float[Array, " b *p v"],
        available: Float[Array, " b v"],
    ) -> Float[Array, " b *s"]:
        """Probabilities without noise: of a VAE, at the means of its priors."""
        noise = jnp.zeros((planes.shape[0], self.noise_size))
        return self.generate(variables, planes, available, noise)

    def sample_volume(
        self,
        variables: PlayerVariables,
        keys: Key[Array, " b"],
        planes: Float[Array, " b *p v"],
        available: Float[Array, " b v"],
    ) -> Float[Array, " b *s"]:
        """Probabilities with drawn noise: of a VAE, an ancestral sample of its levels."""
        return self.generate(variables, planes, available, self.noise(keys))

    def show(
        self, variables: PlayerVariables, keys: Key[Array, " b"], batch: Batch
    ) -> dict[str, Float[Array, " b *s c"]]:
        """Sections of true volumes, of those built from all views and from the first alone."""
        planes, kept = batch["planes"], jnp.ones_like(batch["available"])
        first = jnp.zeros_like(kept).at[:, self.task.order[0]].set(1.0)
        return self.task.pictures(
            batch,
            {
                "all_views": self.build_volume(variables, planes, kept),
                "first_view": self.build_volume(variables, planes, first),
                "draw": self.sample_volume(variables, keys, planes, first),
            },
        )

    def noise(self, keys: Key[Array, " b"]) -> Float[Array, " b _"]:
        """Normal noise, a key a volume."""
        return jax.vmap(lambda key: jax.random.normal(key, (self.noise_size,)))(keys)


def onto_mask(batch: Batch) -> Float[Array, " b *s"]:
    """The volume as a mask of 0 and 1: any label but 0 is foreground."""
    return (batch["label"] > 0).astype(jnp.float32)
