"""The mean shape of a class, drawn from the topmost latent level of a ladder."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy.stats import gaussian_kde

from jaxmedgen.data.phantoms.left_ventricle import LeftVentricles
from jaxmedgen.metrics import ventricle_wall as wall
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.shape.lvae import LadderShapeVae

Density = Literal["gaussian", "kde"]
DRAWS = 1000
BELOW = {"prior means": False, "draws of the priors": True}
"""Where the levels below the topmost are, in words, and `class_shapes`' argument for it."""
_CHUNK = 50


def draw_class(
    rng: np.random.Generator,
    means: Float[np.ndarray, "n d"],
    count: int,
    density: Density | str = "gaussian",
) -> Float[np.ndarray, "count d"]:
    """Vectors distributed as the posterior means of a class.

    Args:
        rng: random generator.
        means: of the topmost level, one class.
        count: draws.
        density: ``gaussian`` or ``kde`` (kernel density, Scott's rule).

    Raises:
        ValueError: an unknown density.
    """
    if density == "gaussian":
        return rng.multivariate_normal(means.mean(0), np.atleast_2d(np.cov(means.T)), count)
    if density == "kde":
        seed = int(rng.integers(2**31))
        return gaussian_kde(means.T).resample(count, seed=seed).T
    raise ValueError(f"density='{density}': choose gaussian or kde")


def class_shapes(
    system: LadderShapeVae,
    variables: PlayerVariables,
    means: Float[np.ndarray, "n d"],
    target: Int[np.ndarray, " n"],
    *,
    seed: int = 0,
    draws: int = DRAWS,
    density: Density | str = "gaussian",
    sample_below: bool = False,
) -> dict[int, Float[np.ndarray, "*s c"]]:
    """Mean probability map of each class; probabilities are averaged, not masks.

    Args:
        system: the model.
        variables: of its trained state.
        means: of the topmost level, training subjects.
        target: their classes.
        seed: of the draws.
        draws: of each class.
        density: see `draw_class`.
        sample_below: draw the lower levels from their priors; otherwise prior means.
    """

    @jax.jit
    def total(variables, z, keys):
        def noise(key):
            parts = jax.random.split(key, len(system.levels))
            sizes = zip(parts, system.levels.items())
            return {name: jax.random.normal(k, (size,)) for k, (name, size) in sizes}

        drawn = jax.vmap(noise)(keys) if sample_below else None
        return system.decode_below(variables, {system.top: z}, drawn).sum(0)

    rng, shapes = np.random.default_rng(seed), {}
    parts = -(-draws // _CHUNK)
    for kind in np.unique(target):
        z = draw_class(rng, means[target == kind], parts * _CHUNK, density)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), int(kind)), len(z))
        rows = (slice(k * _CHUNK, (k + 1) * _CHUNK) for k in range(parts))
        sums = [np.asarray(total(variables, jnp.asarray(z[r], jnp.float32), keys[r])) for r in rows]
        shapes[int(kind)] = sum(sums) / len(z)
    return shapes


@dataclasses.dataclass(frozen=True)
class Thickening:
    """How much thicker the wall of one class is, on the grid of `wall.thickness_map`, in mm.

    Attributes:
        difference: of the sampled mean shapes.
        truth: of the phantom's thickenings, mean over its diseased subjects.
        segments: difference in AHA segments.
    """

    difference: Float[np.ndarray, "levels angles"]
    truth: Float[np.ndarray, "levels angles"]
    segments: Float[np.ndarray, "17"]

    @property
    def correlation(self) -> float:
        """Pearson's r of the two maps."""
        return float(np.corrcoef(self.difference.ravel(), self.truth.ravel())[0, 1])

    def inside(self, share: float = 0.2) -> float:
        """Part of the positive difference where the truth exceeds a share of its maximum."""
        positive = np.maximum(self.difference, 0)
        region = self.truth > share * self.truth.max()
        return float(positive[region].sum() / max(positive.sum(), 1e-9))


def thickening(
    shapes: Mapping[int, Float[np.ndarray, "*s c"]],
    source: LeftVentricles,
    spacing: Sequence[float | int],
    phase: int = 0,
) -> Thickening:
    """Wall thickness of the mean diseased shape less that of the mean healthy one.

    Args:
        shapes: mean probability maps by class.
        source: phantom subjects whose true thickenings are averaged.
        spacing: mm a voxel.
        phase: 0 end diastole, 1 end systole.
    """
    surfaces = [wall.wall_surface(shapes[kind][..., phase], spacing) for kind in (0, 1)]
    maps = [wall.thickness_map(surface) for surface in surfaces]
    segments = [wall.segment_means(surface) for surface in surfaces]
    angle, level = wall.map_grid()
    bumps = (source.ventricles(i)[phase].septal for i in range(len(source)))
    true = np.mean([b.thickness(angle, level) for b in bumps if b is not None], axis=0)
    return Thickening(maps[1] - maps[0], true.reshape(maps[0].shape), segments[1] - segments[0])
