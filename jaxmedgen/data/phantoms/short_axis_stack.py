"""Stacks of short-axis slices of hearts, healthy and diseased, at end diastole and end systole.

A heart is a bullet of blood in a wall of muscle, 80 mm long, with a right ventricle that tapers to
nothing before the apex; centre and direction drift smoothly from slice to slice. Slices are drawn
by `phantoms.short_axis`. Diseases after the ACDC challenge (O. Bernard et al., IEEE TMI 37, 2018):
NOR healthy, DCM dilated left ventricle with a thin wall and a low ejection fraction, HCM thick
wall, most of all the septum, RV dilated right ventricle.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from jaxmedgen.data.phantoms.short_axis import (
    TISSUES,
    SliceGeometry,
    draw_body,
    draw_tissues,
    merge_tissues,
)
from jaxmedgen.data.phantoms.vendors import VENDORS, draw_means, render
from jaxmedgen.data.postprocess import keep_largest_component
from jaxmedgen.data.randomness import sample_generator
from jaxmedgen.data.sources import DatasetInfo, Record

DISEASES = ("NOR", "DCM", "HCM", "RV")
PHASES = ("ED", "ES")
CLASSES = TISSUES[:4]
LENGTH = 80.0
"""mm from base to apex."""
FIELD_OF_VIEW = 160.0
"""mm along the shorter axis of a slice."""

_EJECTION: Mapping[str, tuple[float, float]] = {
    "NOR": (0.55, 0.68),
    "DCM": (0.18, 0.32),
    "HCM": (0.58, 0.72),
    "RV": (0.52, 0.65),
}
_SHORTENING = 0.9  # of the length, at end systole; the phantom keeps its slices
_RV_GONE = 1 / 1.7  # scale at which the right ventricle's disc lies within the epicardium
_RV_END = 0.85  # position at which there is no right ventricle any more
_FEWEST = 4  # pixels of a right ventricle


@dataclasses.dataclass(frozen=True)
class Heart:
    """One heart in one phase; lengths in mm, rows and columns as in the array.

    Attributes:
        lv_radius: of the left ventricle's cavity at the base.
        wall: thickness of the lateral wall at the base.
        septal_wall: thickness of the septum at the base.
        rv_scale: as in `SliceGeometry`, at the base.
        bullet: exponent of the profile ``(1 - s^bullet)^(1/2)`` of the cavity's radius.
        centre: row and column of the left ventricle's centre, from the middle of the picture.
        drift: rows and columns that the centre moves from base to apex.
        rotation: direction of the right ventricle, as in `SliceGeometry`.
        twist: change of the direction from base to apex.
    """

    lv_radius: float
    wall: float
    septal_wall: float
    rv_scale: float
    bullet: float
    centre: tuple[float, float]
    drift: tuple[float, float]
    rotation: float
    twist: float


def draw_heart(rng: np.random.Generator, disease: str = "NOR") -> Heart:
    """A heart at end diastole.

    Args:
        rng: random generator.
        disease: one of `DISEASES`; the same generator gives the same heart but for the disease.

    Raises:
        ValueError: unknown disease.
    """
    if disease not in DISEASES:
        raise ValueError(f"unknown disease '{disease}': choose one of {', '.join(DISEASES)}")
    radius, wall = rng.uniform(20, 25), rng.uniform(7.5, 9.5)
    septum = wall * rng.uniform(0.95, 1.15)
    rv_scale = rng.uniform(0.84, 0.94)
    bullet = rng.uniform(2.2, 3.0)
    # Towards the patient's right, give or take 25 degrees.
    rotation = -np.pi / 2 + np.deg2rad(rng.uniform(-25, 25))
    centre = rng.uniform(-6, 6, 2)
    drift = rng.uniform(-5, 5, 2)
    twist = np.deg2rad(rng.uniform(-12, 12))
    thickening = rng.uniform(4, 8)
    if disease == "DCM":
        radius, wall, septum = 1.3 * radius, 0.85 * wall, 0.85 * septum
    elif disease == "HCM":
        radius, wall, septum = 0.9 * radius, wall + 0.6 * thickening, septum + 1.4 * thickening
    elif disease == "RV":
        # What shows beyond the left ventricle is half as wide again.
        rv_scale = _RV_GONE + 1.5 * (rv_scale - _RV_GONE)
    # Both ventricles together stay near the middle of the picture.
    centre = centre - 10 * np.array([np.cos(rotation), np.sin(rotation)])
    return Heart(
        float(radius), float(wall), float(septum), float(rv_scale), float(bullet),
        (float(centre[0]), float(centre[1])), (float(drift[0]), float(drift[1])),
        float(rotation), float(twist),
    )  # fmt: skip


def contract(heart: Heart, ejection_fraction: float) -> Heart:
    """The same heart at end systole: less blood, the same mass of muscle in every slice.

    Args:
        heart: at end diastole.
        ejection_fraction: share of the left ventricle's blood that is ejected, below 1; 10 % of the
            volume are taken to be lost by shortening, which the stack does not show.

    Raises:
        ValueError: a fraction outside [0, 1).
    """
    if not 0 <= ejection_fraction < 1:
        raise ValueError(f"ejection_fraction={ejection_fraction}: give 0 to below 1")
    radius = heart.lv_radius * min(1.0, np.sqrt((1 - ejection_fraction) / _SHORTENING))

    def thick(wall: float) -> float:
        ring = (heart.lv_radius + wall) ** 2 - heart.lv_radius**2
        return float(np.sqrt(radius**2 + ring) - radius)

    return dataclasses.replace(
        heart,
        lv_radius=float(radius),
        wall=thick(heart.wall),
        septal_wall=thick(heart.septal_wall),
        rv_scale=_RV_GONE + 0.8 * (heart.rv_scale - _RV_GONE),
    )


def slice_geometry(
    heart: Heart, position: float | int, shape: tuple[int, int], pixel: float | int
) -> SliceGeometry:
    """The heart at a position from 0 (base) to 1 (apex), in pixels of `pixel` mm."""
    s = float(position)
    taper = np.sqrt(max(0.0, 1 - (s / _RV_END) ** 2))
    middle = [(n - 1) / 2 for n in shape]
    bend = s + 0.5 * s * s - 0.5  # smooth, 0 near the middle of the stack
    centre = [m + (c + d * bend) / pixel for m, c, d in zip(middle, heart.centre, heart.drift)]
    thinning = 1 - 0.25 * s
    return SliceGeometry(
        centre=(float(centre[0]), float(centre[1])),
        lv_radius=float(heart.lv_radius * np.sqrt(max(0.0, 1 - s**heart.bullet)) / pixel),
        wall=heart.wall * thinning / pixel,
        septal_wall=heart.septal_wall * thinning / pixel,
        rv_scale=float(_RV_GONE + (heart.rv_scale - _RV_GONE) * taper) if taper else 0.0,
        rotation=heart.rotation + heart.twist * (s - 0.5),
    )


def draw_stack(
    rng: np.random.Generator, heart: Heart, count: int, shape: tuple[int, int]
) -> Int[np.ndarray, "n h w"]:
    """Tissues (`short_axis.TISSUES`) of `count` slices from base to apex, one thorax around them.

    Args:
        rng: random generator, of the thorax.
        heart: in one phase.
        count: slices; they lie ``LENGTH / count`` mm apart.
        shape: rows and columns.
    """
    pixel = FIELD_OF_VIEW / min(shape)
    body = draw_body(rng, shape)
    slices = []
    for k in range(count):
        geometry = slice_geometry(heart, (k + 0.5) / count, shape, pixel)
        tissue = draw_tissues(geometry, body, shape)
        slices.append(_without_crumbs(tissue))
    return np.stack(slices)


def _without_crumbs(tissue: Int[np.ndarray, "h w"]) -> Int[np.ndarray, "h w"]:
    """A right ventricle in one piece, or none: thin crescents fall apart into single pixels."""
    right = (tissue == 3).astype(np.int32)
    kept = keep_largest_component(right) > 0
    if kept.sum() < _FEWEST:
        kept = np.zeros_like(kept)
    return np.where((right > 0) & ~kept, 7, tissue).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class ShortAxisStacks:
    """Stacks of `size` subjects, each a pure function of (seed, start + number).

    Vendors take turns, and diseases once a round of vendors, so that every vendor has all of them;
    the stacks of a subject in its phases follow each other. Stacks have different numbers of
    slices, so batches are made of their slices (`data.stacks`).

    Attributes:
        size: number of subjects.
        shape: rows and columns of a slice, at least 32 each.
        seed: of all subjects.
        start: number of the first subject.
        diseases: those that take turns, of `DISEASES`.
        phases: of `PHASES`; each is a stack of its own.
        slices: least and largest number of slices.
        vendors: those that take turns, of `vendors.VENDORS`; none gives label maps alone.
    """

    size: int
    shape: tuple[int, int] = (64, 64)
    seed: int = 0
    start: int = 0
    diseases: tuple[str, ...] = DISEASES
    phases: tuple[str, ...] = ("ED",)
    slices: tuple[int, int] = (6, 14)
    vendors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.shape) != 2 or min(self.shape) < 32:
            raise ValueError(f"shape {self.shape}: give two axes of at least 32 pixels")
        for name, chosen, known in (
            ("diseases", self.diseases, DISEASES),
            ("phases", self.phases, PHASES),
            ("vendors", self.vendors, VENDORS),
        ):
            if not set(chosen) <= set(known) or (not chosen and name != "vendors"):
                raise ValueError(f"{name} {chosen}: give some of {', '.join(known)}")
        if not 1 <= self.slices[0] <= self.slices[1]:
            raise ValueError(f"slices {self.slices}: give the least and the largest number")

    @property
    def info(self) -> DatasetInfo:
        """Class and case names; spacing of the middle number of slices (records have their own)."""
        pixel, middle = FIELD_OF_VIEW / min(self.shape), sum(self.slices) / 2
        return DatasetInfo(
            class_names=CLASSES,
            channel_names=("cine",) if self.vendors else (),
            spacing=(LENGTH / middle, pixel, pixel),
            case_names=tuple(self._name(i) for i in range(len(self))),
        )

    @property
    def groups(self) -> tuple[str, ...]:
        """The disease of every stack."""
        return tuple(self.disease_of(i) for i in range(len(self)))

    @property
    def phases_of(self) -> tuple[str, ...]:
        """The phase of every stack."""
        return tuple(self.phases[i % len(self.phases)] for i in range(len(self)))

    def disease_of(self, index: int) -> str:
        """The disease of a stack."""
        subject = self.start + index // len(self.phases)
        return self.diseases[subject // max(len(self.vendors), 1) % len(self.diseases)]

    def vendor_of(self, index: int) -> str:
        """The vendor of a stack, "" for label maps alone."""
        if not self.vendors:
            return ""
        return self.vendors[(self.start + index // len(self.phases)) % len(self.vendors)]

    def _name(self, index: int) -> str:
        subject, phase = divmod(index, len(self.phases))
        return f"heart-{self.start + subject:05d}-{self.phases[phase]}"

    def __len__(self) -> int:
        return self.size * len(self.phases)

    def __getitem__(self, index: int) -> Record:
        """One stack, slices from base to apex.

        Returns:
            ``label`` int32 ``[n, h, w]`` and ``spacing`` float32 ``[3]`` in mm; with vendors
            ``image`` float32 ``[n, h, w, 1]`` in [0, 1] and ``vendor``, a number in `VENDORS`.
        """
        subject, phase = divmod(int(index), len(self.phases))
        rng = sample_generator(self.seed, self.start, subject, self.size)
        disease = self.disease_of(index)
        heart = draw_heart(rng, disease)
        fraction = float(rng.uniform(*_EJECTION[disease]))
        count = int(rng.integers(self.slices[0], self.slices[1] + 1))
        if self.phases[phase] == "ES":
            heart = contract(heart, fraction)
        tissues = draw_stack(rng, heart, count, self.shape)
        pixel = FIELD_OF_VIEW / min(self.shape)
        record = {
            "label": merge_tissues(tissues, len(CLASSES)),
            "spacing": np.asarray([LENGTH / count, pixel, pixel], np.float32),
        }
        if self.vendors:
            vendor = self.vendor_of(index)
            means = draw_means(rng, vendor)
            record["image"] = np.stack([render(rng, t, vendor, means) for t in tissues])[..., None]
            record["vendor"] = np.int32(VENDORS.index(vendor))
        return record
