"""Short-axis slices of the heart in a thorax: geometry, tissue maps and a labelled source.

A left ventricle (disc of blood in a muscular ring), a right ventricle (crescent: a second disc less
the first one's epicardium) and the organs around it. Sizes follow the phantom of the sheet on
label-conditional cardiac synthesis and the labels of the M&Ms challenge (V. Campello et al., IEEE
TMI 40, 2021: 1 left ventricle, 2 myocardium, 3 right ventricle). Images come from
`phantoms.vendors`.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxmedgen.data.phantoms.vendors import VENDORS, render
from jaxmedgen.data.randomness import sample_generator
from jaxmedgen.data.sources import DatasetInfo, Record

TISSUES = (
    "background",
    "lv_blood",
    "lv_myocardium",
    "rv_blood",
    "chest_wall",
    "lung",
    "liver",
    "fat",
)
"""Names of the tissue values 0..7; the first four are the classes of the short label map."""

CLASSES = (4, 8)
_RV_DISTANCE = 0.7
"""Distance of the right ventricle's disc from the left one's centre, in its own radii."""


@dataclasses.dataclass(frozen=True)
class SliceGeometry:
    """One heart in one slice; lengths in pixels, rows and columns as in the array.

    Attributes:
        centre: row and column of the left ventricle's centre.
        lv_radius: of the left ventricle's cavity; 0 where muscle fills it (the apex).
        wall: thickness of the lateral wall.
        septal_wall: thickness of the septum; the wall turns from one to the other smoothly.
        rv_scale: radius of the right ventricle's disc over the mean epicardial radius; 0 for none.
        rotation: direction of the right ventricle in radians, from the row towards the column axis.
    """

    centre: tuple[float | int, float | int]
    lv_radius: float | int
    wall: float | int
    septal_wall: float | int
    rv_scale: float | int
    rotation: float | int


@dataclasses.dataclass(frozen=True)
class Body:
    """The thorax around a heart, an ellipse of shells; lengths in pixels.

    Attributes:
        centre: row and column of its middle.
        half_axes: of the skin, along rows and columns.
        fat: thickness of the fat under the skin.
        chest_wall: thickness of muscle and ribs within it.
        liver: row and column of the liver's middle.
        liver_half_axes: of the liver, along rows and columns.
        pericardial_fat: thickness of the fat around the heart.
    """

    centre: tuple[float | int, float | int]
    half_axes: tuple[float | int, float | int]
    fat: float | int
    chest_wall: float | int
    liver: tuple[float | int, float | int]
    liver_half_axes: tuple[float | int, float | int]
    pericardial_fat: float | int


def draw_geometry(rng: np.random.Generator, shape: tuple[int, int]) -> SliceGeometry:
    """A healthy heart near the middle: at 64 pixels, cavity of 7 to 12 and wall of 3 to 6.

    Args:
        rng: random generator.
        shape: rows and columns; lengths are proportional to the shorter.
    """
    unit = min(shape) / 64
    middle = [(n - 1) / 2 + rng.uniform(-5, 5) * unit for n in shape]
    wall = rng.uniform(3, 6) * unit
    return SliceGeometry(
        centre=(middle[0], middle[1]),
        lv_radius=rng.uniform(7, 12) * unit,
        wall=wall,
        septal_wall=wall * rng.uniform(0.9, 1.15),
        rv_scale=rng.uniform(0.85, 1.1),
        rotation=rng.uniform(0, 2 * np.pi),
    )


def draw_body(rng: np.random.Generator, shape: tuple[int, int]) -> Body:
    """A thorax that fills most of the picture, the liver at a low corner.

    Args:
        rng: random generator.
        shape: rows and columns; shells are proportional to the shorter.
    """
    unit = min(shape) / 64
    rows, columns = shape
    side = rng.choice([-1.0, 1.0])
    return Body(
        centre=((rows - 1) / 2 + rng.uniform(-3, 3) * unit,
                (columns - 1) / 2 + rng.uniform(-3, 3) * unit),
        half_axes=(rows * rng.uniform(0.47, 0.53), columns * rng.uniform(0.52, 0.62)),
        fat=rng.uniform(1.5, 4) * unit,
        chest_wall=rng.uniform(2.5, 5) * unit,
        liver=(rows * rng.uniform(0.78, 0.9), columns * (0.5 + side * rng.uniform(0.1, 0.35))),
        liver_half_axes=(rows * rng.uniform(0.14, 0.24), columns * rng.uniform(0.25, 0.4)),
        pericardial_fat=rng.uniform(0, 2.5) * unit,
    )  # fmt: skip


def epicardial_radius(
    geometry: SliceGeometry, direction: Float[np.ndarray, "*s"]
) -> Float[np.ndarray, "*s"]:
    """Distance of the outer wall from the left ventricle's centre.

    Args:
        geometry: the heart.
        direction: angles in radians, counted as its ``rotation``.
    """
    # 1 at the middle of the septum, 0 opposite; the square keeps the lateral half thin.
    septal = ((1 + np.cos(direction - geometry.rotation)) / 2) ** 2
    thickness = geometry.wall + (geometry.septal_wall - geometry.wall) * septal
    return geometry.lv_radius + thickness


def draw_tissues(
    geometry: SliceGeometry, body: Body, shape: tuple[int, int]
) -> Int[np.ndarray, "h w"]:
    """The tissue of every pixel, values as in `TISSUES`.

    Args:
        geometry: the heart, painted over the organs.
        body: the thorax.
        shape: rows and columns.
    """
    rows, columns = np.indices(shape).astype(np.float64)
    tissue = np.zeros(shape, np.int32)
    for depth, value in (
        (0.0, 7),
        (body.fat, 4),
        (body.fat + body.chest_wall, 5),
    ):
        tissue[_ellipse(rows, columns, body.centre, body.half_axes, depth)] = value
    liver = _ellipse(rows, columns, body.liver, body.liver_half_axes)
    tissue[liver & (tissue == 5)] = 6
    down, across = rows - geometry.centre[0], columns - geometry.centre[1]
    distance = np.hypot(down, across)
    epicardium = epicardial_radius(geometry, np.arctan2(across, down))
    mean_radius = geometry.lv_radius + (5 * geometry.wall + 3 * geometry.septal_wall) / 8
    rv_radius = geometry.rv_scale * mean_radius
    towards = np.array([np.cos(geometry.rotation), np.sin(geometry.rotation)])
    offset = _RV_DISTANCE * rv_radius * towards
    from_rv = np.hypot(down - offset[0], across - offset[1])
    fat = body.pericardial_fat
    around = (distance < epicardium + fat) | (from_rv < rv_radius + fat)
    tissue[around & (rv_radius + mean_radius > 0)] = 7
    tissue[from_rv < rv_radius] = 3
    tissue[distance < epicardium] = 2
    tissue[distance < geometry.lv_radius] = 1
    return tissue


def merge_tissues(tissue: Int[np.ndarray, "*s"], classes: int) -> Int[np.ndarray, "*s"]:
    """Tissue values as `classes` label values: 8 keeps all, 4 calls all but the heart background.

    Raises:
        ValueError: other numbers of classes.
    """
    if classes not in CLASSES:
        raise ValueError(f"classes={classes}: choose 4 (the heart) or 8 (organs too)")
    return np.where(tissue < classes, tissue, 0).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class ShortAxis:
    """`size` slices, each a pure function of (seed, start + index); vendors take turns.

    Attributes:
        size: number of slices.
        shape: rows and columns, at least 32 each.
        seed: of all slices.
        vendors: those that take turns, of `phantoms.vendors.VENDORS`.
        classes: 4 (background, left ventricle, myocardium, right ventricle) or 8 (organs too).
        start: number of the first slice.
    """

    size: int
    shape: tuple[int, int] = (64, 64)
    seed: int = 0
    vendors: tuple[str, ...] = ("A", "B")
    classes: int = 4
    start: int = 0

    def __post_init__(self) -> None:
        if len(self.shape) != 2 or min(self.shape) < 32:
            raise ValueError(f"shape {self.shape}: give two axes of at least 32 pixels")
        unknown = [v for v in self.vendors if v not in VENDORS]
        if unknown or not self.vendors:
            raise ValueError(f"vendors {self.vendors}: give some of {', '.join(VENDORS)}")
        merge_tissues(np.zeros(0, np.int32), self.classes)

    @property
    def info(self) -> DatasetInfo:
        """Class, channel and case names (which end in the vendor); a field of view of 160 mm."""
        return DatasetInfo(
            class_names=TISSUES[: self.classes],
            channel_names=("cine",),
            spacing=(160.0 / min(self.shape),) * 2,
            case_names=tuple(
                f"heart-{self.start + i:05d}-{self.vendor_of(i)}" for i in range(self.size)
            ),
        )

    def vendor_of(self, index: int) -> str:
        """The vendor of a slice."""
        return self.vendors[(self.start + index) % len(self.vendors)]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Record:
        """One slice.

        Returns:
            ``image`` float32 ``[h, w, 1]`` in [0, 1], ``label`` int32 ``[h, w]`` and ``vendor``,
            an int32 number in `VENDORS`.
        """
        rng = sample_generator(self.seed, self.start, index, self.size)
        vendor = self.vendor_of(index)
        tissues = draw_tissues(
            draw_geometry(rng, self.shape), draw_body(rng, self.shape), self.shape
        )
        return {
            "image": render(rng, tissues, vendor)[..., None],
            "label": merge_tissues(tissues, self.classes),
            "vendor": np.int32(VENDORS.index(vendor)),
        }


def _ellipse(rows, columns, centre, half_axes, depth=0.0) -> Bool[np.ndarray, "h w"]:
    """Pixels of an ellipse whose half axes are shortened by `depth`."""
    a, b = (max(axis - depth, 1e-3) for axis in half_axes)
    return ((rows - centre[0]) / a) ** 2 + ((columns - centre[1]) / b) ** 2 < 1
