"""What a model of shapes with a classifier does on held-out subjects."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxmedgen.data.sources import Source
from jaxmedgen.experiments.shape_generation import batch_of, in_chunks
from jaxmedgen.metrics.classification import ClassificationScores, classification_scores
from jaxmedgen.metrics.shape_model import dice
from jaxmedgen.metrics.surface_distance import surface_distances
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.shape.lvae import LadderShapeVae

CHUNK = 40


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Numbers of n subjects.

    Attributes:
        target: true classes.
        probability: of class 1.
        latents: posterior means ``[n, d]`` by level.
        kl: nats of each level, mean over subjects.
        shapes: the subjects' masks.
        kept: reconstructed masks from 1, 2, ... levels, ``[n, levels, *s, c]``.
    """

    target: Int[np.ndarray, " n"]
    probability: Float[np.ndarray, " n"]
    latents: Mapping[str, Float[np.ndarray, "n _"]]
    kl: Mapping[str, float]
    shapes: Bool[np.ndarray, "n *s c"]
    kept: Bool[np.ndarray, "n m *s c"]

    @property
    def scores(self) -> ClassificationScores:
        """Accuracy with its interval, sensitivity, specificity, AUC."""
        return classification_scores(self.probability, self.target)

    def dice(self, levels: int = 0) -> Float[np.ndarray, "c n"]:
        """Dice of each phase or organ and subject, from the topmost `levels` (0: all)."""
        masks = self.kept[:, levels - 1]
        channels = range(self.shapes.shape[-1])
        return np.stack([dice(masks[..., c], self.shapes[..., c]) for c in channels])

    def hausdorff(self, spacing: tuple[float, ...]) -> Float[np.ndarray, "c n"]:
        """Hausdorff distance in mm of each phase or organ and subject; NaN of an empty mask."""
        masks = self.kept[:, -1]
        return np.asarray([
            [_hausdorff(a[..., c], b[..., c], spacing) for a, b in zip(masks, self.shapes)]
            for c in range(self.shapes.shape[-1])
        ])  # fmt: skip


def observe(system: LadderShapeVae, variables: PlayerVariables, source: Source) -> Outcome:
    """Classifies, encodes and reconstructs all subjects of a source."""
    batch = dict(batch_of(source, range(len(source))))
    target = np.asarray(batch.pop("target"))
    batch.pop("index", None)

    @jax.jit
    def look(variables, batch):
        image = batch["image"]
        posteriors = system.posteriors(variables, image)
        kept = [system.truncated(variables, image, k + 1) > 0.5 for k in range(len(system.levels))]
        return {
            "probability": system.classify(variables, image)[:, 1],
            "latents": {name: mean for name, (mean, _) in posteriors.items()},
            "kl": system.divergences(variables, batch),
            "kept": jax.numpy.stack(kept, 1),
        }

    found = in_chunks(lambda part: look(variables, part), {"image": batch["image"]}, chunk=CHUNK)
    return Outcome(
        target=target,
        probability=found["probability"],
        latents=found["latents"],
        kl={name: float(kl.sum(-1).mean()) for name, kl in found["kl"].items()},
        shapes=np.asarray(batch["image"]) > 0.5,
        kept=found["kept"],
    )


def _hausdorff(a, b, spacing) -> float:
    if not a.any() or not b.any():
        return float("nan")
    return surface_distances(a, b, spacing).hausdorff()
