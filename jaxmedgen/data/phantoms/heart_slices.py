"""Short-axis slices of subjects with a vendor and a disease each: data for studies of shifts.

One slice a subject, so that slices are independent; the names of cases start with vendor and
disease (``A-NOR-00012``) and give their groups. Hearts are those of `short_axis_stack`.
"""

import dataclasses

import numpy as np
from jaxtyping import Int

from jaxmedgen.data.phantoms.short_axis import TISSUES, draw_body, draw_tissues
from jaxmedgen.data.phantoms.short_axis_stack import (
    DISEASES,
    FIELD_OF_VIEW,
    draw_heart,
    slice_geometry,
)
from jaxmedgen.data.phantoms.vendors import VENDORS, render
from jaxmedgen.data.randomness import sample_generator
from jaxmedgen.data.sources import DatasetInfo, Record

POSITIONS = (0.1, 0.6)
"""Range of the slice from base (0) to apex (1): both ventricles are in it."""


@dataclasses.dataclass(frozen=True)
class HeartSlices:
    """`size` subjects, each a pure function of (seed, start + index).

    Attributes:
        size: number of subjects.
        shape: rows and columns, at least 32 each.
        seed: of all subjects.
        start: number of the first subject.
        vendors: take turns; a vendor named twice is twice as frequent.
        diseases: take turns, one round of vendors each; likewise.
    """

    size: int
    shape: tuple[int, int] = (64, 64)
    seed: int = 0
    start: int = 0
    vendors: tuple[str, ...] = ("A",)
    diseases: tuple[str, ...] = ("NOR",)

    def __post_init__(self) -> None:
        if len(self.shape) != 2 or min(self.shape) < 32:
            raise ValueError(f"shape {self.shape}: give two axes of at least 32 pixels")
        for name, chosen, known in (
            ("vendors", self.vendors, VENDORS),
            ("diseases", self.diseases, DISEASES),
        ):
            if not chosen or not set(chosen) <= set(known):
                raise ValueError(f"{name} {chosen}: give some of {', '.join(known)}")

    @property
    def info(self) -> DatasetInfo:
        """Tissues as classes; pixels in mm."""
        pixel = FIELD_OF_VIEW / min(self.shape)
        return DatasetInfo(
            class_names=TISSUES,
            channel_names=("cine",),
            spacing=(pixel, pixel),
            case_names=tuple(
                f"{self.vendor_of(i)}-{self.disease_of(i)}-{self.start + i:05d}"
                for i in range(self.size)
            ),
        )

    def vendor_of(self, index: int) -> str:
        """The vendor of a subject."""
        return self.vendors[index % len(self.vendors)]

    def disease_of(self, index: int) -> str:
        """The disease of a subject."""
        return self.diseases[index // len(self.vendors) % len(self.diseases)]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Record:
        """One slice: ``image`` float32 ``[h, w, 1]`` in [0, 1], ``label`` tissues ``[h, w]``."""
        rng = sample_generator(self.seed, self.start, index, self.size)
        tissues = draw_slice(rng, self.disease_of(index), self.shape)
        image = render(rng, tissues, self.vendor_of(index))
        return {"image": image[..., None], "label": tissues}


def draw_slice(
    rng: np.random.Generator, disease: str, shape: tuple[int, int]
) -> Int[np.ndarray, "h w"]:
    """Tissues of one slice of a subject with a disease, one of `short_axis_stack.DISEASES`."""
    heart = draw_heart(rng, disease)
    body = draw_body(rng, shape)
    position = float(rng.uniform(*POSITIONS))
    geometry = slice_geometry(heart, position, shape, FIELD_OF_VIEW / min(shape))
    return draw_tissues(geometry, body, shape)
