"""Late-enhancement slices of the heart: dark muscle, bright blood, and scar nearly as bright.

A scar is a wedge of the left ventricle's wall, from the inside outward: 20 to 150 degrees wide, a
quarter to all of the wall deep. Now and then its core stays dark (no-reflow). Part of the subjects
have none. Geometry is that of `short_axis_stack`; the picture's texture, bias field, blur and
Rician noise are those of vendor C.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from jaxmedgen.data.phantoms.short_axis import (
    TISSUES,
    SliceGeometry,
    draw_body,
    draw_tissues,
    epicardial_radius,
)
from jaxmedgen.data.phantoms.short_axis_stack import FIELD_OF_VIEW, draw_heart, slice_geometry
from jaxmedgen.data.phantoms.vendors import acquire
from jaxmedgen.data.randomness import sample_generator
from jaxmedgen.data.sources import DatasetInfo, Record

TISSUE_NAMES = (*TISSUES, "scar", "no_reflow")
"""Names of the values of a late-enhancement tissue map."""

TARGET_OF = (0, 1, 2, 0, 0, 0, 0, 0, 3, 3)
"""Class of each tissue: background, left ventricle, myocardium, scar (dark core included)."""

TARGET_NAMES = ("background", "lv_blood", "myocardium", "scar")

SCAR, NO_REFLOW = 8, 9
_MEANS = (0.02, 0.80, 0.12, 0.74, 0.24, 0.06, 0.30, 0.58, 0.72, 0.14)
_SPREAD = 0.08
_ANGLE = (20.0, 150.0)
_DEPTH = (0.25, 1.0)
_NO_REFLOW = 0.2


@dataclasses.dataclass(frozen=True)
class Scar:
    """A wedge of the wall.

    Attributes:
        direction: of its middle in radians, from the row towards the column axis.
        angle: its width in radians.
        depth: part of the wall that it takes, from the inside (transmurality).
        no_reflow: whether its core stays dark.
    """

    direction: float
    angle: float
    depth: float
    no_reflow: bool = False


def draw_scar(rng: np.random.Generator) -> Scar:
    """A scar anywhere in the wall."""
    return Scar(
        direction=float(rng.uniform(0, 2 * np.pi)),
        angle=float(np.deg2rad(rng.uniform(*_ANGLE))),
        depth=float(rng.uniform(*_DEPTH)),
        no_reflow=bool(rng.random() < _NO_REFLOW),
    )


def paint_scar(
    tissues: Int[np.ndarray, "h w"], geometry: SliceGeometry, scar: Scar
) -> Int[np.ndarray, "h w"]:
    """The tissue map with the scar's part of the myocardium as `SCAR` (core `NO_REFLOW`)."""
    rows, columns = np.indices(tissues.shape)
    down, across = rows - geometry.centre[0], columns - geometry.centre[1]
    direction = np.arctan2(across, down)
    wall = epicardial_radius(geometry, direction) - geometry.lv_radius
    depth = (np.hypot(down, across) - geometry.lv_radius) / np.maximum(wall, 1e-6)
    away = np.abs((direction - scar.direction + np.pi) % (2 * np.pi) - np.pi)
    muscle = tissues == 2
    inside = muscle & (away < scar.angle / 2) & (depth < scar.depth)
    core = inside & (away < scar.angle / 5) & (np.abs(depth - scar.depth / 2) < scar.depth / 5)
    painted = np.where(inside, SCAR, tissues)
    return np.where(core & scar.no_reflow, NO_REFLOW, painted).astype(np.int32)


def draw_means(rng: np.random.Generator) -> Float[np.ndarray, "10"]:
    """Signals of the tissues in one subject."""
    means = np.asarray(_MEANS) * (1 + _SPREAD * rng.standard_normal(len(_MEANS)))
    # Nulling of healthy muscle and the uptake of scar differ from scan to scan.
    means[2] += rng.uniform(-0.04, 0.08)
    means[SCAR] += rng.uniform(-0.12, 0.1)
    return np.clip(means, 0.01, 1).astype(np.float32)


def render(
    rng: np.random.Generator,
    tissues: Int[np.ndarray, "h w"],
    means: Float[np.ndarray, "10"] | None = None,
) -> Float[np.ndarray, "h w"]:
    """A slice of a tissue map, float32 in [0, 1].

    Args:
        rng: random generator.
        tissues: values as in `TISSUE_NAMES`.
        means: signals, for slices of one subject; `draw_means` by default.
    """
    means = draw_means(rng) if means is None else means
    return acquire(rng, np.asarray(means, np.float32)[tissues], "C")


@dataclasses.dataclass(frozen=True)
class LateEnhancement:
    """Slices of `size` subjects, each subject a pure function of (seed, start + number).

    The names of cases are those of BIDS, ``sub-00012_slice-0``: splits keep subjects together.

    Attributes:
        size: number of subjects.
        shape: rows and columns, at least 32 each.
        seed: of all subjects.
        start: number of the first subject.
        slices: a subject.
        scar_free: share of subjects without scar.
    """

    size: int
    shape: tuple[int, int] = (64, 64)
    seed: int = 0
    start: int = 0
    slices: int = 1
    scar_free: float | int = 0.3

    def __post_init__(self) -> None:
        if len(self.shape) != 2 or min(self.shape) < 32:
            raise ValueError(f"shape {self.shape}: give two axes of at least 32 pixels")
        if self.slices < 1 or not 0 <= self.scar_free <= 1:
            raise ValueError(
                f"slices={self.slices}, scar_free={self.scar_free}: give at least 1 and a share"
            )

    @property
    def info(self) -> DatasetInfo:
        """Tissues as classes; pixels in mm."""
        pixel = FIELD_OF_VIEW / min(self.shape)
        return DatasetInfo(
            class_names=TISSUE_NAMES,
            channel_names=("late_enhancement",),
            spacing=(pixel, pixel),
            case_names=tuple(
                f"sub-{self.start + i // self.slices:05d}_slice-{i % self.slices}"
                for i in range(len(self))
            ),
        )

    def __len__(self) -> int:
        return self.size * self.slices

    def __getitem__(self, index: int) -> Record:
        """One slice: ``image`` float32 ``[h, w, 1]`` in [0, 1], ``label`` tissues ``[h, w]``."""
        subject, number = divmod(int(index), self.slices)
        rng = sample_generator(self.seed, self.start, subject, self.size)
        heart, body, means = draw_heart(rng), draw_body(rng, self.shape), draw_means(rng)
        scarred, scar = rng.random() >= self.scar_free, draw_scar(rng)
        pixel = FIELD_OF_VIEW / min(self.shape)
        # The slices of a subject lie in the middle of the ventricle; noise is each slice's own.
        for k in range(number + 1):
            position = (k + rng.uniform(0.2, 0.8)) / self.slices
            noise = int(rng.integers(2**32))
        geometry = slice_geometry(heart, 0.1 + 0.5 * position, self.shape, pixel)
        tissues = draw_tissues(geometry, body, self.shape)
        if scarred:
            tissues = paint_scar(tissues, geometry, scar)
        image = render(np.random.default_rng(noise), tissues, means)
        return {"image": image[..., None], "label": tissues}
