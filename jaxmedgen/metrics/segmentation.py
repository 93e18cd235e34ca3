"""Segmentation metrics of one case (host side, float64) and Dice for validation while training.

The policy on empty masks, chosen so that **a missed structure can never improve a score**:

| reference | prediction | Dice, IoU, surface Dice | HD, HD95, ASSD          |
|-----------|------------|-------------------------|-------------------------|
| present   | present    | as measured             | as measured             |
| present   | empty      | 0                       | diagonal of the image   |
| empty     | present    | 0                       | diagonal of the image   |
| empty     | empty      | NaN: excluded, counted  | NaN: excluded, counted  |

Lesion-wise recall and F1 go with the overlaps. ``absent="right"`` scores the last row as a right
answer (1 and 0 mm), as BraTS does.

Libraries that return NaN for a missed structure and then average what is left reward finding fewer
structures (MONAI issue 9095). The diagonal bounds every distance that two masks can have.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from jaxmedgen.metrics import surface_distance
from jaxmedgen.metrics.lesions import lesion_detection

Scores = Mapping[str, Mapping[str, float]]
"""Metrics of one case: ``scores[class_name][metric]``."""

Absent = Literal["excluded", "right"]
"""What a structure counts that neither reference nor prediction has."""

OVERLAPS = ("dice", "iou", "nsd")
"""Metrics in [0, 1], higher is better."""

DISTANCES = ("hd", "hd95", "assd")
"""Metrics in mm, lower is better."""

DETECTIONS = ("lesion_recall", "lesion_f1")
"""Parts of the connected components that are found, higher is better; see `lesions`."""

SIZES = ("reference_size", "prediction_size")
"""Areas (mm^2) or volumes (mm^3); they tell missed and spurious structures from measured ones."""


TOLERANCE = 1.0
"""Distance in mm that the surface Dice forgives unless told otherwise."""


def evaluate_case(
    prediction: Shaped[np.ndarray, "*p"],
    reference: Shaped[np.ndarray, "*r"],
    class_names: Sequence[str],
    spacing: Sequence[float | int],
    *,
    tolerance: float | int = TOLERANCE,
    regions: Mapping[str, Sequence[int]] | None = None,
    absent: Absent = "excluded",
) -> dict[str, dict[str, float]]:
    """Dice, IoU, surface Dice, HD, HD95 and ASSD of every foreground class of one case.

    With P and R the voxel sets of one class:
    Dice = 2|P n R| / (|P| + |R|), IoU = |P n R| / |P u R|; ``hd`` is the largest distance of a
    point of one surface from the other surface, ``hd95`` the larger of the two directed 95th
    percentiles, ``assd`` the average symmetric surface distance and ``nsd`` the share of both
    surfaces within `tolerance` of the other, all weighted by surface area (see
    `surface_distance`). Empty masks follow the table at the top of this module.

    Args:
        prediction: class indices ``[*s]``, 2D or 3D.
        reference: class indices ``[*s]``.
        class_names: one name a label value; index 0, the background, is not scored.
        spacing: voxel size in mm, one number an axis.
        tolerance: distance in mm that the surface Dice forgives.
        regions: label values by name, scored as one structure each, in place of the classes
            (`regions.py`).
        absent: whether a structure that neither array has is left out, or is right.

    Returns:
        ``scores[class_name][metric]`` (or of each region) with the metrics `OVERLAPS`, `DISTANCES`
        (mm), `DETECTIONS` and `SIZES`.

    Raises:
        ValueError: shapes differ, not 2D or 3D, NaN or fractional values, a label without a name,
            a spacing that does not fit.
    """
    spacing = tuple(float(s) for s in spacing)
    _check_spacing(reference.ndim, spacing)
    if prediction.shape != reference.shape:
        raise ValueError(
            f"prediction has shape {prediction.shape}, reference {reference.shape}: "
            "resample one onto the other's grid first"
        )
    prediction = _label_array(prediction, "prediction", len(class_names))
    reference = _label_array(reference, "reference", len(class_names))
    diagonal = math.hypot(*(n * s for n, s in zip(reference.shape, spacing)))
    if regions is None:
        regions = {name: (k,) for k, name in enumerate(class_names) if k > 0}
    scores = {}
    for name, values in regions.items():
        masks = (np.isin(array, tuple(values)) for array in (prediction, reference))
        found = _evaluate_class(*masks, spacing, diagonal, tolerance)
        if absent == "right" and not any(found[size] for size in SIZES):
            found |= dict.fromkeys((*OVERLAPS, *DETECTIONS), 1.0) | dict.fromkeys(DISTANCES, 0.0)
        scores[name] = found
    return scores


def dice_per_class(
    prediction: Float[Array, " b *s k"] | Int[Array, " b *s"],
    labels: Int[Array, " b *s"],
    num_classes: int | None = None,
) -> Float[Array, " b k"]:
    """Dice of every class and sample, inside jit; NaN where both masks are empty.

    Args:
        prediction: logits or probabilities ``[b, *s, k]`` (the largest wins) or labels ``[b, *s]``.
        labels: reference class indices ``[b, *s]``.
        num_classes: number of classes k; needed where `prediction` holds labels.

    Raises:
        ValueError: labels without `num_classes`, or shapes that do not belong together.
    """
    if jnp.issubdtype(prediction.dtype, jnp.floating):
        num_classes = prediction.shape[-1]
        prediction = jnp.argmax(prediction, axis=-1)
    if num_classes is None:
        raise ValueError("prediction holds labels: pass num_classes too")
    if prediction.shape != labels.shape:
        raise ValueError(f"prediction gives labels {prediction.shape}, reference is {labels.shape}")
    classes = jnp.arange(num_classes)
    predicted = prediction[..., None] == classes
    true = labels[..., None] == classes
    axes = tuple(range(1, labels.ndim))
    # Counted in int32: float32 sums lose voxels beyond 2^24.
    both = jnp.sum(predicted & true, axes)
    total = jnp.sum(predicted, axes) + jnp.sum(true, axes)
    return jnp.where(total > 0, 2.0 * both / jnp.maximum(total, 1), jnp.nan)


def dice_score(
    prediction: Float[Array, " b *s k"] | Int[Array, " b *s"],
    labels: Int[Array, " b *s"],
    num_classes: int | None = None,
) -> Float[Array, " b"]:
    """Mean foreground Dice of every sample over the classes present in either mask.

    Same arguments as `dice_per_class`. A sample with no foreground in both masks gives NaN.
    """
    foreground = dice_per_class(prediction, labels, num_classes)[:, 1:]
    scored = ~jnp.isnan(foreground)
    count = jnp.sum(scored, axis=1)
    mean = jnp.sum(jnp.where(scored, foreground, 0.0), axis=1) / jnp.maximum(count, 1)
    return jax.lax.select(count > 0, mean, jnp.full_like(mean, jnp.nan))


def foreground_mean(scores: Scores, metric: str = "dice") -> float:
    """Mean of one metric over the classes of a case that are scored (not both empty).

    NaN if the case has no scored class, or was scored without that metric.
    """
    found = (s.get(metric, math.nan) for s in scores.values())
    values = [value for value in found if not math.isnan(value)]
    return math.fsum(values) / len(values) if values else math.nan


def _evaluate_class(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing: tuple[float, ...],
    diagonal: float,
    tolerance: float | int,
) -> dict[str, float]:
    voxel = math.prod(spacing)
    predicted, true = int(prediction.sum()), int(reference.sum())
    sizes = {"reference_size": true * voxel, "prediction_size": predicted * voxel}
    if predicted == 0 and true == 0:
        return dict.fromkeys((*OVERLAPS, *DISTANCES, *DETECTIONS), math.nan) | sizes
    if predicted == 0 or true == 0:
        worst = dict.fromkeys((*OVERLAPS, *DETECTIONS), 0.0)
        return worst | dict.fromkeys(DISTANCES, diagonal) | sizes
    both = int((prediction & reference).sum())
    surfaces = surface_distance.surface_distances(prediction, reference, spacing)
    lesions = lesion_detection(prediction, reference)
    return {
        "dice": 2 * both / (predicted + true),
        "iou": both / (predicted + true - both),
        "nsd": surfaces.surface_dice(tolerance),
        "hd": surfaces.hausdorff(),
        "hd95": surfaces.hausdorff(95),
        "assd": surfaces.average(),
        "lesion_recall": lesions.recall,
        "lesion_f1": lesions.f1,
    } | sizes


def _check_spacing(rank: int, spacing: tuple[float, ...]) -> None:
    if rank not in (2, 3):
        raise ValueError(f"label arrays must be 2D or 3D without a batch axis, got {rank} axes")
    if len(spacing) != rank:
        raise ValueError(f"spacing {spacing} has {len(spacing)} numbers for {rank} axes")
    if not all(math.isfinite(s) and s > 0 for s in spacing):
        raise ValueError(f"spacing {spacing} must be positive and finite, in mm")


def _label_array(array: np.ndarray, name: str, num_classes: int) -> np.ndarray:
    """`array` as whole class indices below `num_classes`."""
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinite values: pass class indices")
        if not (array == np.round(array)).all():
            raise ValueError(f"{name} holds fractional values: pass class indices (argmax first)")
    array = array.astype(np.int64)
    if array.size == 0:
        raise ValueError(f"{name} is empty, shape {array.shape}")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"{name} holds labels {low}..{high} but class_names has {num_classes} names "
            f"(labels 0..{num_classes - 1})"
        )
    return array
