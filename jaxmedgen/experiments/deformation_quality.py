"""What the spatial stage of an augmentation policy does to space and to labels, in numbers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from jaxmedgen.augment.spatial import Spatial, sample_spatial, sampling_coordinates
from jaxmedgen.ops.field_measures import folding_percentage
from jaxmedgen.ops.fields import identity_grid
from jaxmedgen.ops.resample import resample_labels


@dataclasses.dataclass(frozen=True)
class DeformationQuality:
    """Of the draws that move anything; mirroring left out.

    Attributes:
        moved: share of the draws.
        folding: per cent of voxels whose Jacobian determinant is 0 or below.
        mean_displacement: in mm.
        max_displacement: in mm, mean over draws.
        volume_change: mean over draws and foreground labels of ``|V' / V - 1|``, per cent; what
            leaves the image counts as lost.
    """

    moved: float
    folding: float
    mean_displacement: float
    max_displacement: float
    volume_change: float


def deformation_quality(
    settings: Spatial, keys: Key[Array, " n"], label: Int[np.ndarray, "*s"]
) -> DeformationQuality:
    """Draws maps and measures them on one label map, a draw at a time.

    Args:
        settings: the spatial stage; probabilities are as it has them.
        keys: one a draw.
        label: class indices.

    Raises:
        ValueError: no draw moves anything.
    """
    settings = dataclasses.replace(settings, flip_axes=())
    shape, mm = label.shape, jnp.asarray(settings.spacing)
    classes = [k for k in np.unique(label) if k > 0]
    sizes = np.array([(label == k).sum() for k in classes], np.float32)

    @jax.jit
    def measure(key):
        parameters = sample_spatial(settings, key[None])
        coordinates = sampling_coordinates(settings, parameters, shape)
        field = coordinates - identity_grid(shape)
        length = jnp.linalg.norm(field * mm, axis=-1)
        moved = resample_labels(jnp.asarray(label)[None], coordinates, order=1)
        after = jnp.stack([(moved == k).sum() for k in classes]) if classes else jnp.zeros(0)
        return folding_percentage(field)[0], length.mean(), length.max(), after

    rows: list[tuple[float, float, float, Float[np.ndarray, " k"]]] = []
    for key in keys:
        folding, mean, largest, after = map(np.asarray, measure(key))
        if largest > 1e-4:
            change = 100 * np.abs(after / sizes - 1)
            rows.append((float(folding), float(mean), float(largest), change))
    if not rows:
        raise ValueError(f"none of {len(keys)} draws moves anything: give more keys")
    folding, mean, largest = (float(np.mean([row[i] for row in rows])) for i in range(3))
    change = float(np.mean([row[3] for row in rows])) if classes else float("nan")
    return DeformationQuality(len(rows) / len(keys), folding, mean, largest, change)
