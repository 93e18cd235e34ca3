"""Left ventricles at end diastole and end systole, healthy or with a thick septum (HCM).

A truncated bullet of muscle around a bullet of blood, after the sheet on the shape classification
of hypertrophic cardiomyopathy. Body size, length, wall, eccentricity, axis, position and small
bumps vary in everybody and account for most of the variance; the disease is a bump of the septum at
a place, of a width and an amplitude of its own, so that no leading principal component shows it.
Thickenings bulge outwards: the blood, and with it the ejection fraction, is what was drawn.

The long axis is the first array axis, apex at index 0; the septum is at the low end of the last
axis, the anterior wall at the low end of the middle one.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from jaxmedgen.data.randomness import sample_generator
from jaxmedgen.data.sources import DatasetInfo, Record

CLASSES = ("healthy", "HCM")
PHASES = ("ED", "ES")
FIELD_OF_VIEW = 112.0
"""mm, of every axis."""

_TAPER = 0.85
"""Share of the length over which the bullet widens."""
_CAP = 0.8
"""Thickness of the apex over that of the wall at the base."""
_SHORTENING = 0.86
_THICKENING = 1.35
_EJECTION = {0: 0.62, 1: 0.68}


@dataclasses.dataclass(frozen=True)
class Bump:
    """A Gaussian thickening of the wall over angle and length.

    Attributes:
        amplitude: mm.
        angle: of its middle in radians, 0 at the septum, pi/2 anterior.
        angular_width: standard deviation in radians.
        level: of its middle, 0 apex to 1 base.
        width: standard deviation along the length, as `level`.
    """

    amplitude: float | int
    angle: float | int
    angular_width: float | int
    level: float | int
    width: float | int

    def thickness(
        self, angle: Float[np.ndarray, "*s"], level: Float[np.ndarray, "*s"]
    ) -> Float[np.ndarray, "*s"]:
        """Added thickness in mm at angles and levels."""
        turned = (angle - self.angle + np.pi) % (2 * np.pi) - np.pi
        return self.amplitude * np.exp(
            -0.5 * (turned / self.angular_width) ** 2
            - 0.5 * ((level - self.level) / self.width) ** 2
        )


@dataclasses.dataclass(frozen=True)
class Ventricle:
    """A ventricle in one phase; lengths in mm.

    Attributes:
        radius: of the blood at the base.
        length: of the blood, apex to base.
        wall: thickness at the base.
        eccentricity: the cross-section is wider by it along one axis, narrower along the other.
        tilt: of the long axis towards the second and third array axis, radians.
        apex: position of the blood's apex relative to the middle of the field of view.
        bumps: small ones that everybody has.
        septal: the disease, or None.
    """

    radius: float | int
    length: float | int
    wall: float | int
    eccentricity: float | int
    tilt: tuple[float | int, float | int]
    apex: tuple[float | int, float | int, float | int]
    bumps: tuple[Bump, ...] = ()
    septal: Bump | None = None

    def contract(self, ejection_fraction: float | int) -> "Ventricle":
        """The same ventricle at end systole: shorter, thicker, with so much less blood."""
        area = (1 - ejection_fraction) / _SHORTENING
        return dataclasses.replace(
            self,
            radius=self.radius * np.sqrt(area),
            length=self.length * _SHORTENING,
            wall=self.wall * _THICKENING,
            bumps=tuple(_scaled(b, _THICKENING) for b in self.bumps),
            septal=None if self.septal is None else _scaled(self.septal, _THICKENING),
        )

    def healthy(self) -> "Ventricle":
        """The same ventricle without the disease."""
        return dataclasses.replace(self, septal=None)


def draw_ventricle(
    rng: np.random.Generator,
    diseased: bool,
    amplitude: float | int = 1.0,
    body: float | int = 1.0,
) -> tuple[Ventricle, Ventricle]:
    """A random ventricle at end diastole and at end systole.

    Args:
        rng: random generator; healthy and diseased take the same number of draws from it.
        diseased: whether its septum is thick.
        amplitude: factor of the thickening.
        body: mean size, 1 in the main population.
    """
    size = body * (1 + 0.08 * rng.normal())
    length = 80 * (1 + 0.06 * rng.normal()) * size
    radius = 24 * (1 + 0.08 * rng.normal()) * size
    wall = 8 * (1 + 0.12 * rng.normal()) * np.sqrt(size)
    eccentricity = 0.06 * rng.normal()
    tilt = np.deg2rad(4) * rng.normal(size=2)
    shift = 2 * rng.normal(size=3)
    bumps = tuple(
        Bump(
            amplitude=0.5 * rng.normal(),
            angle=rng.uniform(-np.pi, np.pi),
            angular_width=rng.uniform(0.4, 0.8),
            level=rng.uniform(0.1, 0.95),
            width=rng.uniform(0.1, 0.25),
        )
        for _ in range(3)
    )
    septal = Bump(
        amplitude=amplitude * rng.uniform(3, 9),
        angle=0.35 * rng.normal(),
        angular_width=rng.uniform(0.6, 1.1),
        level=rng.uniform(0.25, 0.65),
        width=rng.uniform(0.2, 0.4),
    )
    fraction = float(np.clip(_EJECTION[int(diseased)] + 0.05 * rng.normal(), 0.2, 0.85))
    apex = (shift[0] - length / 2, shift[1], shift[2])
    relaxed = Ventricle(
        radius, length, wall, eccentricity, tuple(tilt), apex, bumps, septal if diseased else None
    )
    return relaxed, relaxed.contract(fraction)


def render_ventricle(
    ventricle: Ventricle, shape: Sequence[int]
) -> tuple[Bool[np.ndarray, "d h w"], Bool[np.ndarray, "d h w"]]:
    """Muscle and blood, a voxel after its centre.

    Args:
        ventricle: what is drawn.
        shape: voxels; the field of view is `FIELD_OF_VIEW` along every axis.
    """
    angle, level, distance = _polar(ventricle, shape)
    height = level * ventricle.length
    cap = _CAP * ventricle.wall
    outer_level = (height + cap) / (ventricle.length + cap)
    extra = sum(b.thickness(angle, level) for b in _all_bumps(ventricle))
    # A thickening ends where the bullet does.
    extra = extra * _profile(outer_level)
    inner = ventricle.radius * _profile(level)
    outer = (ventricle.radius + ventricle.wall) * _profile(outer_level) + extra
    below_base = level <= 1
    blood = (distance < inner) & (level >= 0) & below_base
    muscle = (distance < outer) & (outer_level >= 0) & below_base & ~blood
    return muscle, blood


def septal_region(
    ventricle: Ventricle, shape: Sequence[int], share: float | int = 0.3
) -> Bool[np.ndarray, "d h w"]:
    """Where the disease has thickened the wall by more than `share` of its amplitude.

    All voxels in those directions from the axis, muscle or not; empty in a healthy ventricle.
    """
    angle, level, _ = _polar(ventricle, shape)
    if ventricle.septal is None:
        return np.zeros(tuple(shape), bool)
    inside = (level >= 0) & (level <= 1)
    bump = dataclasses.replace(ventricle.septal, amplitude=1.0)
    return inside & (bump.thickness(angle, level) > share)


def _scaled(bump: Bump, factor: float) -> Bump:
    return dataclasses.replace(bump, amplitude=bump.amplitude * factor)


def _all_bumps(ventricle: Ventricle) -> tuple[Bump, ...]:
    return ventricle.bumps + (() if ventricle.septal is None else (ventricle.septal,))


def _profile(level):
    """Radius of the bullet over its largest one; 0 below the apex."""
    return np.sqrt(np.clip(1 - np.maximum(0, 1 - level / _TAPER) ** 2, 0, None))


def _polar(ventricle, shape):
    """Angle, level and distance from the axis (rounded to a circle) of every voxel centre."""
    axes = [(np.arange(n) + 0.5) * (FIELD_OF_VIEW / n) - FIELD_OF_VIEW / 2 for n in shape]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    z, y, x = (value - start for value, start in zip((z, y, x), ventricle.apex))
    first, second = ventricle.tilt
    z, y = np.cos(first) * z + np.sin(first) * y, np.cos(first) * y - np.sin(first) * z
    z, x = np.cos(second) * z + np.sin(second) * x, np.cos(second) * x - np.sin(second) * z
    y, x = y / (1 + ventricle.eccentricity), x / (1 - ventricle.eccentricity)
    return np.arctan2(-y, -x), z / ventricle.length, np.hypot(y, x)


@dataclasses.dataclass(frozen=True)
class LeftVentricles:
    """`size` subjects, each a pure function of (seed, start + index); healthy and HCM alternate.

    Attributes:
        size: number of subjects.
        shape: three axes of at least 16 voxels.
        seed: of all subjects.
        start: number of the first subject.
        amplitude: factor of the septal thickening.
        body: mean body size, 1 in the main population.
        blur: standard deviation in mm of a blur of the masks before they are cut at 1/2 again, as
            by a scanner of larger voxels; 0 for none.
    """

    size: int
    shape: tuple[int, ...] = (32, 32, 32)
    seed: int = 0
    start: int = 0
    amplitude: float | int = 1.0
    body: float | int = 1.0
    blur: float | int = 0.0

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 16:
            raise ValueError(f"shape {self.shape}: give three axes of at least 16 voxels")
        for name in ("amplitude", "body"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)}: give a positive factor")
        if self.blur < 0:
            raise ValueError(f"blur={self.blur} mm: give 0 or more")

    @property
    def info(self) -> DatasetInfo:
        """A channel a phase; classes are in ``target``."""
        return DatasetInfo(
            class_names=CLASSES,
            channel_names=PHASES,
            spacing=tuple(FIELD_OF_VIEW / n for n in self.shape),
            case_names=tuple(
                f"ventricle-{self.start + i:05d}-{CLASSES[self.target_of(i)]}"
                for i in range(self.size)
            ),
        )

    def target_of(self, index: int) -> int:
        """Class of a subject, a number in `CLASSES`."""
        return (self.start + index) % len(CLASSES)

    def __len__(self) -> int:
        return self.size

    def ventricles(self, index: int) -> tuple[Ventricle, Ventricle]:
        """The geometry of a subject at end diastole and end systole."""
        rng = sample_generator(self.seed, self.start, index, self.size)
        return draw_ventricle(rng, bool(self.target_of(index)), self.amplitude, self.body)

    def __getitem__(self, index: int) -> Record:
        """``image`` float32 ``[d, h, w, 2]``, the muscle in {0, 1} a phase; ``target`` int32."""
        masks = [render_ventricle(v, self.shape)[0] for v in self.ventricles(index)]
        if self.blur:
            deviation = [self.blur * n / FIELD_OF_VIEW for n in self.shape]
            masks = [ndimage.gaussian_filter(m.astype(np.float32), deviation) > 0.5 for m in masks]
        return {
            "image": np.stack(masks, -1).astype(np.float32),
            "target": np.int32(self.target_of(index)),
        }
