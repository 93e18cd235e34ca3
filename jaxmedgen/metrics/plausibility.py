"""Does a label map look like a heart? Topology of slices, clinical indices of stacks.

A slice is plausible when every class it shows is in one piece and without holes, the left
ventricle's blood is enclosed by muscle (no pixel of it shares an edge with anything else), and the
right ventricle touches muscle. A stack is plausible when its clinical indices lie within the middle
98 % of those of the training subjects.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from jaxmedgen.metrics.cardiac import HEART, ClinicalIndices, HeartClasses


@dataclasses.dataclass(frozen=True)
class SliceFlags:
    """What is right with one slice.

    Attributes:
        connected: every class that is there is one component (8 neighbours).
        filled: no class, and not the left ventricle as a whole, has a hole.
        enclosed: the left ventricle's blood touches nothing but muscle, and is not at the border.
        adjacent: the right ventricle, if there is one, touches muscle.
    """

    connected: bool
    filled: bool
    enclosed: bool
    adjacent: bool

    @property
    def plausible(self) -> bool:
        """All of them."""
        return self.connected and self.filled and self.enclosed and self.adjacent


_EIGHT = np.ones((3, 3), bool)


def slice_flags(label: Int[np.ndarray, "h w"], classes: HeartClasses = HEART) -> SliceFlags:
    """Checks the topology of one slice.

    Args:
        label: one slice; without any heart it is not plausible (nothing is connected).
        classes: label values.
    """
    left, muscle, right = (label == v for v in (classes.left, classes.muscle, classes.right))
    shown = [mask for mask in (left, muscle, right) if mask.any()]
    connected = bool(shown) and all(ndimage.label(m, structure=_EIGHT)[1] == 1 for m in shown)
    filled = all(
        bool((ndimage.binary_fill_holes(mask) == mask).all())
        for mask in (left, right, left | muscle)
        if mask.any()
    )
    around = np.pad(left, 1)
    around = ndimage.binary_dilation(around) & ~around
    enclosed = bool(np.pad(muscle, 1)[around].all())
    touching = ndimage.binary_dilation(right) & muscle
    return SliceFlags(connected, filled, enclosed, bool(touching.any() or not right.any()))


def plausible_share(label: Int[np.ndarray, "n h w"], classes: HeartClasses = HEART) -> float:
    """Share of plausible slices among those that show a heart.

    Slices without any heart in a stack's middle count as not plausible, at its ends they are left
    out.

    Args:
        label: slices.
        classes: label values.
    """
    shown = np.flatnonzero(np.isin(label, dataclasses.astuple(classes)).any((1, 2)))
    if not shown.size:
        return 0.0
    inner = label[shown[0] : shown[-1] + 1]
    return float(np.mean([slice_flags(each, classes).plausible for each in inner]))


@dataclasses.dataclass(frozen=True)
class IndexRange:
    """Range of clinical indices of training subjects, in the order of `cardiac.INDICES`.

    Attributes:
        low: 1st percentile of each index.
        high: 99th percentile of each index.
    """

    low: Float[np.ndarray, "4"]
    high: Float[np.ndarray, "4"]

    @classmethod
    def of(
        cls,
        indices: Sequence[ClinicalIndices],
        percentiles: tuple[float | int, float | int] = (1, 99),
    ) -> "IndexRange":
        """The range of some subjects.

        Raises:
            ValueError: no subject.
        """
        if not indices:
            raise ValueError("no subjects: a range needs some")
        low, high = np.percentile([i.vector() for i in indices], percentiles, axis=0)
        return cls(low, high)

    def contains(self, indices: ClinicalIndices) -> bool:
        """Whether every index lies within the range."""
        found = indices.vector()
        return bool(((found >= self.low) & (found <= self.high)).all())


def clean_label(
    label: Int[np.ndarray, "h w"], classes: HeartClasses = HEART
) -> Int[np.ndarray, "h w"]:
    """The largest piece of every class of a slice, holes of the heart filled.

    Holes of the left ventricle become muscle, those of a blood pool blood; loose pieces become what
    surrounds most of their border. Other label values stay as they are.

    Args:
        label: one slice.
        classes: label values.
    """
    out = label.copy()
    for value in dataclasses.astuple(classes):
        parts, count = ndimage.label(out == value, structure=_EIGHT)
        if count > 1:
            sizes = ndimage.sum_labels(np.ones_like(parts), parts, range(1, count + 1))
            for number in set(range(1, count + 1)) - {int(np.argmax(sizes)) + 1}:
                piece = parts == number
                border = ndimage.binary_dilation(piece, structure=_EIGHT) & ~piece
                around = out[border & (out != value)]
                out[piece] = np.bincount(around).argmax() if around.size else 0
    for value in (classes.left, classes.right):
        mask = out == value
        hole = ndimage.binary_fill_holes(mask) & ~mask
        out[hole] = value
    heart = (out == classes.left) | (out == classes.muscle)
    out[ndimage.binary_fill_holes(heart) & ~heart] = classes.muscle
    return out
