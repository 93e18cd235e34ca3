"""Hippocampus-like shapes, healthy or with a shrunken head (Alzheimer's disease).

A bent ellipsoid with a thicker head. Everybody differs in size by 10 %, in bend, pose and
thickness; the disease takes 5 to 15 % off the width of the head alone, so that volume hardly tells.
The long axis is the second array axis, head at index 0.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from jaxmedgen.data.randomness import sample_generator
from jaxmedgen.data.sources import DatasetInfo, Record

CLASSES = ("healthy", "AD")
FIELD_OF_VIEW = 60.0
"""mm, of every axis."""

_HALF_LENGTH = 20.0
_HALF_WIDTHS = (6.5, 7.5)
_HEAD = 0.35
"""The head is so much wider than the body."""


@dataclasses.dataclass(frozen=True)
class Hippocampus:
    """One shape; lengths in mm.

    Attributes:
        size: factor of all lengths.
        thickness: factor of the widths.
        bend: how far the middle of the axis leaves the line between its ends.
        tilt: of the axis in the planes of the first two and the last two array axes, radians.
        centre: relative to the middle of the field of view.
        shrinkage: share that the disease takes off the width of the head.
    """

    size: float | int
    thickness: float | int
    bend: float | int
    tilt: tuple[float | int, float | int]
    centre: tuple[float | int, float | int, float | int]
    shrinkage: float | int = 0.0

    def mask(self, shape: tuple[int, ...]) -> Bool[np.ndarray, "d h w"]:
        """Voxels whose centre is inside."""
        z, y, x = self._axes(shape)
        along = y / (_HALF_LENGTH * self.size)
        z = z - self.bend * (1 - along**2)
        widths = [w * self.size * self.thickness * self._head_factor(along) for w in _HALF_WIDTHS]
        return (z / widths[0]) ** 2 + (x / widths[1]) ** 2 + along**2 < 1

    def head(self, shape: tuple[int, ...]) -> Bool[np.ndarray, "d h w"]:
        """The half of the field of view that the head is in."""
        z, y, x = self._axes(shape)
        return np.broadcast_to(y < 0, np.broadcast_shapes(z.shape, y.shape, x.shape)).copy()

    def _head_factor(self, along: Float[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
        head = np.exp(-0.5 * ((along + 0.6) / 0.3) ** 2)
        return (1 + _HEAD * head) * (1 - self.shrinkage * head)

    def _axes(self, shape):
        axes = [(np.arange(n) + 0.5) * (FIELD_OF_VIEW / n) - FIELD_OF_VIEW / 2 for n in shape]
        z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
        z, y, x = (value - middle for value, middle in zip((z, y, x), self.centre))
        first, second = self.tilt
        z, y = np.cos(first) * z + np.sin(first) * y, np.cos(first) * y - np.sin(first) * z
        y, x = np.cos(second) * y + np.sin(second) * x, np.cos(second) * x - np.sin(second) * y
        return z, y, x


def draw_hippocampus(rng: np.random.Generator, diseased: bool) -> Hippocampus:
    """A random shape; healthy and diseased take the same number of draws."""
    drawn = Hippocampus(
        size=1 + 0.1 * rng.normal(),
        thickness=1 + 0.05 * rng.normal(),
        bend=4 + rng.normal(),
        tilt=tuple(np.deg2rad(4) * rng.normal(size=2)),
        centre=tuple(rng.normal(size=3)),
    )
    shrinkage = rng.uniform(0.05, 0.15)
    return dataclasses.replace(drawn, shrinkage=shrinkage) if diseased else drawn


@dataclasses.dataclass(frozen=True)
class Hippocampi:
    """`size` shapes, each a pure function of (seed, start + index); healthy and AD alternate.

    Attributes:
        size: number of shapes.
        shape: three axes of at least 16 voxels.
        seed: of all shapes.
        start: number of the first shape.
    """

    size: int
    shape: tuple[int, ...] = (32, 32, 32)
    seed: int = 0
    start: int = 0

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 16:
            raise ValueError(f"shape {self.shape}: give three axes of at least 16 voxels")

    @property
    def info(self) -> DatasetInfo:
        """One channel; classes are in ``target``."""
        return DatasetInfo(
            class_names=CLASSES,
            channel_names=("hippocampus",),
            spacing=tuple(FIELD_OF_VIEW / n for n in self.shape),
            case_names=tuple(
                f"hippocampus-{self.start + i:05d}-{CLASSES[self.target_of(i)]}"
                for i in range(self.size)
            ),
        )

    def target_of(self, index: int) -> int:
        """Class of a subject, a number in `CLASSES`."""
        return (self.start + index) % len(CLASSES)

    def __len__(self) -> int:
        return self.size

    def hippocampus(self, index: int) -> Hippocampus:
        """The geometry of a subject."""
        rng = sample_generator(self.seed, self.start, index, self.size)
        return draw_hippocampus(rng, bool(self.target_of(index)))

    def __getitem__(self, index: int) -> Record:
        """``image`` float32 ``[d, h, w, 1]`` in {0, 1}; ``target`` int32."""
        mask = self.hippocampus(index).mask(self.shape)
        return {
            "image": mask[..., None].astype(np.float32),
            "target": np.int32(self.target_of(index)),
        }
