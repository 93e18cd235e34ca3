"""Clinical indices of short-axis label maps, and how well slices fit on each other.

Label maps hold the blood of the left ventricle, its muscle and the blood of the right ventricle
(classes 1, 2, 3 by default). Stacks ``[n, h, w]`` have spacings in mm between slices, rows and
columns. Volumes are in ml, masses in g, thicknesses in mm.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

MUSCLE_DENSITY = 1.05
"""g / ml."""

INDICES = ("lv_volume", "rv_volume", "mass", "wall_thickness")
"""Fields of `ClinicalIndices`."""


@dataclasses.dataclass(frozen=True)
class HeartClasses:
    """Label values.

    Attributes:
        left: blood of the left ventricle.
        muscle: of the left ventricle.
        right: blood of the right ventricle.
    """

    left: int = 1
    muscle: int = 2
    right: int = 3


HEART = HeartClasses()
_NAMES = {1: ("lv", "left"), 2: ("myo", "muscle"), 3: ("rv", "right")}


def check_heart_order(class_names: Sequence[str]) -> None:
    """Checks that classes with a heart's names are left cavity, muscle and right cavity, 1, 2, 3.

    Names without a muscle are another organ's or say nothing. Data sets differ: ACDC's files have
    the right ventricle first, M&Ms' the left one.

    Args:
        class_names: with the background first.

    Raises:
        ValueError: another order.
    """
    found = {}
    for value, name in enumerate(class_names):
        # The muscle is asked first: "lv_myocardium" is no cavity.
        for part in (2, 1, 3):
            if any(word in name.lower() for word in _NAMES[part]):
                found.setdefault(part, value)
                break
    wrong = {part: value for part, value in found.items() if part != value}
    if wrong and 2 in found:
        raise ValueError(
            f"classes {', '.join(class_names[1:])}: hearts are left cavity, myocardium and right "
            "cavity in this order (1, 2, 3); list them so in --config.data.label_map"
        )


@dataclasses.dataclass(frozen=True)
class ClinicalIndices:
    """What a cardiologist reads off a stack.

    Attributes:
        lv_volume: blood of the left ventricle, ml.
        rv_volume: blood of the right ventricle, ml.
        mass: of the left ventricle's muscle, g.
        wall_thickness: mean over the slices that show the left ventricle, mm; NaN without any.
    """

    lv_volume: float
    rv_volume: float
    mass: float
    wall_thickness: float

    def vector(self) -> Float[np.ndarray, "4"]:
        """The numbers in the order of `INDICES`."""
        return np.asarray([getattr(self, name) for name in INDICES])


def clinical_indices(
    label: Int[np.ndarray, "n h w"], spacing: Sequence[float | int], classes: HeartClasses = HEART
) -> ClinicalIndices:
    """Volumes, mass and wall thickness of a stack.

    Args:
        label: the stack.
        spacing: mm between slices, rows and columns.
        classes: label values.
    """
    ml = float(np.prod(np.asarray(spacing, float))) / 1000
    count = {v: int((label == v).sum()) for v in (classes.left, classes.muscle, classes.right)}
    walls = [wall_thickness(each, spacing[1:], classes) for each in label]
    walls = [w for w in walls if np.isfinite(w)]
    return ClinicalIndices(
        lv_volume=count[classes.left] * ml,
        rv_volume=count[classes.right] * ml,
        mass=MUSCLE_DENSITY * count[classes.muscle] * ml,
        wall_thickness=float(np.mean(walls)) if walls else float("nan"),
    )


def ejection_fraction(end_diastolic: float | int, end_systolic: float | int) -> float:
    """``(EDV - ESV) / EDV``.

    Raises:
        ValueError: no volume at end diastole.
    """
    if end_diastolic <= 0:
        raise ValueError(f"end-diastolic volume {end_diastolic}: it must be positive")
    return float((end_diastolic - end_systolic) / end_diastolic)


def wall_thickness(
    label: Int[np.ndarray, "h w"],
    spacing: Sequence[float | int],
    classes: HeartClasses = HEART,
    rays: int = 64,
) -> float:
    """Mean distance in mm from inner to outer contour of the muscle; NaN without left blood.

    Over rays from the centre of the left ventricle's blood. Along a ray the length within blood and
    within blood and muscle together is summed, each sampled linearly at a quarter of a pixel.

    Args:
        label: one slice.
        spacing: mm between rows and columns.
        classes: label values.
        rays: number of directions.
    """
    blood = label == classes.left
    if not blood.any():
        return float("nan")
    heart = blood | (label == classes.muscle)
    spacing = np.asarray(spacing, float)
    centre = np.argwhere(blood).mean(0)
    step = 0.25 * spacing.min()
    reach = np.arange(0, np.hypot(*(np.asarray(label.shape) * spacing)) / 2, step)
    angle = np.arange(rays) * (2 * np.pi / rays)
    towards = np.stack([np.cos(angle), np.sin(angle)]) / spacing[:, None]
    points = centre[:, None, None] + towards[:, :, None] * reach
    lengths = [
        ndimage.map_coordinates(mask.astype(np.float32), points, order=1).sum(-1) * step
        for mask in (blood, heart)
    ]
    return float(np.mean(lengths[1] - lengths[0]))


def neighbour_dice(label: Int[np.ndarray, "n h w"], classes: Sequence[int] = (1, 2, 3)) -> float:
    """Mean Dice of consecutive slices over the classes that either of them shows.

    Args:
        label: a stack of at least two slices.
        classes: that are compared.

    Raises:
        ValueError: a single slice.
    """
    if len(label) < 2:
        raise ValueError(f"{len(label)} slice: neighbours need two")
    scores = []
    for value in classes:
        mask = label == value
        size = mask.sum((1, 2))
        both = size[:-1] + size[1:]
        overlap = (mask[:-1] & mask[1:]).sum((1, 2))
        scores.extend(2 * overlap[both > 0] / both[both > 0])
    return float(np.mean(scores)) if scores else float("nan")


def area_jumps(
    label: Int[np.ndarray, "n h w"],
    spacing: Sequence[float | int],
    classes: Sequence[int] = (1, 2, 3),
) -> float:
    """Mean absolute change of a class's area from slice to slice in mm^2.

    Args:
        label: a stack.
        spacing: mm between slices, rows and columns.
        classes: whose areas are followed.
    """
    areas = np.stack([(label == value).sum((1, 2)) for value in classes], -1)
    pixel = float(spacing[1]) * float(spacing[2])
    return float(np.abs(np.diff(areas, axis=0)).mean() * pixel)
