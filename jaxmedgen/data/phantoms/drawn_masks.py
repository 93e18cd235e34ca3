"""What sources of drawn 2D masks share: how many, how large, their names and random numbers."""

import dataclasses
from typing import ClassVar

import numpy as np

from jaxmedgen.data.randomness import sample_generator
from jaxmedgen.data.sources import DatasetInfo


@dataclasses.dataclass(frozen=True)
class DrawnMasks:
    """`size` masks, each a pure function of (seed, start + index).

    Attributes:
        size: number of masks.
        shape: two axes of at least 16 pixels; lengths are for 32 and grow with the shorter one.
        seed: of all masks.
        start: number of the first mask.
        case: first part of the masks' names.
        foreground: name of the class that is drawn.
    """

    size: int
    shape: tuple[int, ...] = (32, 32)
    seed: int = 0
    start: int = 0

    case: ClassVar[str]
    foreground: ClassVar[str]

    def __post_init__(self) -> None:
        if len(self.shape) != 2 or min(self.shape) < 16:
            raise ValueError(
                f"shape {self.shape}: {self.case}s have two axes of at least 16 pixels"
            )

    @property
    def info(self) -> DatasetInfo:
        """One channel, background and foreground; spacing 1 mm."""
        return DatasetInfo(
            class_names=("background", self.foreground),
            channel_names=("mask",),
            spacing=(1.0, 1.0),
            case_names=tuple(f"{self.case}-{self.start + i:06d}" for i in range(self.size)),
        )

    @property
    def unit(self) -> float:
        """Pixels of a length that is 1 in images of 32."""
        return min(self.shape) / 32

    def generator(self, index: int) -> np.random.Generator:
        """Random numbers of one mask."""
        return sample_generator(self.seed, self.start, index, self.size)

    def __len__(self) -> int:
        return self.size
