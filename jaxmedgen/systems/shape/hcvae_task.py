"""What all models of volumes from planes share: the task, its augmentation, training pictures."""

import dataclasses
from collections.abc import Collection

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxmedgen.augment.plane_views import PlaneAugmentation
from jaxmedgen.nets.plane_encoders import draw_views
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


def onto_mask(batch: Batch) -> Float[Array, " b *s"]:
    """The volume as a mask of 0 and 1: any label but 0 is foreground."""
    return (batch["label"] > 0).astype(jnp.float32)
