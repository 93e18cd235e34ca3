"""Fetal skulls with three ultrasound planes that are registered neither to them nor to each other.

A skull is an ellipsoid of the size that fetuses have at a gestational age between 20 and 36 weeks,
its radius modulated by eight smooth modes, joined with an ellipsoid for the face, which only the
sagittal and the coronal plane show. Each plane has its own offset, tilt, in-plane rotation and
shift, and looks like ultrasound: bright walls where the beam meets them at right angles, speckle,
logarithmic compression.

After the experiment of Cerrolaza et al., "3D fetal skull reconstruction from 2DUS via deep
conditional generative networks", MICCAI 2018, whose data are private. Axes: left to right,
posterior to anterior, inferior to superior. Lengths in mm, in a field of view of fixed size, so
that the size of the head is kept.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from jaxmedgen.data.planes import FIELD_OF_VIEW, VIEW_AXES, VIEWS, unit_range
from jaxmedgen.data.sources import DatasetInfo, Record

_BEAM = (0, 0, 1)
"""In-plane axis along which the beam runs: from the side, onto the face, from the vertex."""
_WALL = 0.05
_MODES = 8


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """One fetus' head.

    Attributes:
        age: gestational age in weeks.
        diameters: biparietal and occipitofrontal diameter and height of the ellipsoid in mm.
        modes: coefficients of the radius' modes.
        face_centre: of the face's ellipsoid in mm.
        face_radii: of the face's ellipsoid in mm.
    """

    age: float
    diameters: Float[np.ndarray, "3"]
    modes: Float[np.ndarray, "8"]
    face_centre: Float[np.ndarray, "3"]
    face_radii: Float[np.ndarray, "3"]


@dataclasses.dataclass(frozen=True)
class FetalSkull:
    """`size` volumes, each a pure function of (seed, start + index).

    Attributes:
        size: number of volumes.
        shape: cubic, three axes of at least 8 voxels.
        seed: of all.
        start: number of the first volume.
        shell: whether the target is the bone, two to three voxels thick, not the solid head.
        scans: volumes of one fetus: the same head, other planes.
        shadow: probability that a plane has an acoustic shadow.
        mode_deviation: of the radius' modes.
        height_deviation: of the ratio of height and biparietal diameter.
        face_deviation: of the face's size, relative (width; length and height vary 1.25 times so).
    """

    size: int
    shape: tuple[int, ...] = (32, 32, 32)
    seed: int = 0
    start: int = 0
    shell: bool = False
    scans: int = 1
    shadow: float | int = 0.0
    mode_deviation: float | int = 0.05
    height_deviation: float | int = 0.12
    face_deviation: float | int = 0.2

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or len(set(self.shape)) != 1 or self.shape[0] < 8:
            raise ValueError(f"shape {self.shape}: give three equal axes of at least 8 voxels")
        if self.size < 0 or self.scans < 1:
            raise ValueError(f"size {self.size}, scans {self.scans}: give at least 0 and 1")
        if not 0 <= self.shadow <= 1:
            raise ValueError(f"shadow {self.shadow} is no probability: give 0 to 1")

    @property
    def info(self) -> DatasetInfo:
        """Views as channels; case names that tell which volumes are of one fetus."""
        numbers = range(self.start, self.start + self.size)
        return DatasetInfo(
            class_names=("background", "skull"),
            channel_names=VIEWS,
            spacing=(FIELD_OF_VIEW / self.shape[0],) * 3,
            case_names=tuple(
                f"sub-{i // self.scans:05d}_scan-{i % self.scans + 1}" for i in numbers
            ),
        )

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Record:
        """``planes`` float32 ``[n, n, view]`` in [0, 1], ``available`` (all), ``label`` int32."""
        if not 0 <= index < self.size:
            raise IndexError(f"sample {index} of {self.size}")
        number = self.start + int(index)
        anatomy = self.anatomy(number // self.scans)
        rng = _generator(self.seed, number, 1)
        grid = self._grid()
        points = np.stack(np.meshgrid(grid, grid, grid, indexing="ij"), -1)
        inside = surface(anatomy, points) < 0
        if self.shell:
            inside &= ~ndimage.binary_erosion(inside, ndimage.generate_binary_structure(3, 1), 2)
        frames = plane_points(rng, anatomy, grid)
        return {
            "planes": _ultrasound(rng, surface(anatomy, frames), self.shadow),
            "available": np.ones(len(VIEWS), np.float32),
            "label": inside.astype(np.int32),
        }

    def anatomy(self, fetus: int) -> Anatomy:
        """The head of a fetus of this seed."""
        rng = _generator(self.seed, fetus, 0)
        age = rng.uniform(20, 36)
        noise = rng.standard_normal(3)
        biparietal = mean_biparietal_diameter(age) * (1 + 0.03 * noise[0])
        index = np.clip(0.79 + 0.05 * noise[1], 0.65, 0.95)
        height = biparietal * np.clip(0.92 + self.height_deviation * noise[2], 0.65, 1.2)
        diameters = np.array([biparietal, biparietal / index, height])
        half = diameters / 2
        spread = 1 + self.face_deviation * np.array([1, 1.25, 1.25]) * rng.standard_normal(3)
        return Anatomy(
            age=float(age),
            diameters=diameters,
            modes=self.mode_deviation * rng.standard_normal(_MODES),
            face_centre=np.array([0, 0.62, -0.72]) * half,
            face_radii=np.array([0.55, 0.42, 0.55]) * half * np.maximum(spread, 0.2),
        )

    def _grid(self):
        """Voxel centres along an axis in mm, the head's centre at 0."""
        n = self.shape[0]
        return (np.arange(n, dtype=np.float32) - (n - 1) / 2) * np.float32(FIELD_OF_VIEW / n)


def mean_biparietal_diameter(age: float | int) -> float:
    """Mean biparietal diameter in mm at a gestational age in weeks (20 to 36)."""
    return -38.371 + 5.150 * age - 0.044643 * age**2


def surface(anatomy: Anatomy, points: Float[np.ndarray, "*s 3"]) -> Float[np.ndarray, "*s"]:
    """Level function at positions in mm: 0 on the head's surface, negative inside.

    Relative distance: ``rho / r(n) - 1`` of the skull, with rho and direction n in units of the
    ellipsoid's semi-axes and ``r(n) = 1 + sum_i a_i Q_i(n)``; the least of that and the face's.
    """
    points = points.astype(np.float32)
    local = points / (anatomy.diameters / 2).astype(np.float32)
    rho = np.maximum(np.sqrt(np.einsum("...i,...i", local, local)), np.float32(1e-6))
    x, y, z = (local[..., i] / rho for i in range(3))
    a = anatomy.modes.astype(np.float32)
    radius = (
        1
        + z * (a[1] * x + a[2] * y)
        + a[0] * x * y
        + a[3] * (1.5 * z * z - 0.5)
        + a[4] * y * (2.5 * y * y - 1.5)
        + a[5] * z * (2.5 * z * z - 1.5)
        + a[6] * x
        + a[7] * (x * x - y * y)
    )
    skull = rho / np.maximum(radius, 0.2) - 1
    face = (points - anatomy.face_centre.astype(np.float32)) / anatomy.face_radii.astype(np.float32)
    return np.minimum(skull, np.sqrt(np.einsum("...i,...i", face, face)) - 1)


def plane_points(
    rng: np.random.Generator, anatomy: Anatomy, grid: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "3 n n 3"]:
    """Positions in mm of the pixels of the three planes, each with a pose of its own.

    The axial plane lies a tenth of the half height above the middle, the others in the middle;
    offset N(0, 1.5) mm, tilts N(0, 5) degrees, rotation U(-10, 10) degrees, shift U(-6, 6) mm.
    """
    flat = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1)
    views = []
    for view, (first, second) in enumerate(VIEW_AXES):
        level = 0.1 * anatomy.diameters[2] / 2 if view == 0 else 0.0
        level += 1.5 * rng.standard_normal()
        tilts = np.deg2rad(5 * rng.standard_normal(2))
        angle = np.deg2rad(rng.uniform(-10, 10))
        shift = rng.uniform(-6, 6, 2)
        turned = flat @ _turn(angle).T + shift
        # Rows: in-plane axes and normal of the tilted plane, in the frame of the untilted one.
        frame = _about(0, tilts[0]) @ _about(1, tilts[1])
        points = turned @ frame[:, :2].T
        points[..., 2] += level
        views.append(points[..., np.argsort([first, second, 3 - first - second])])
    return np.stack(views).astype(np.float32)


def _ultrasound(rng, level, shadow) -> Float[np.ndarray, "n n 3"]:
    """What a scanner shows of planes through a level function, ``[n, n, view]`` in [0, 1]."""
    slope = np.stack(np.gradient(level, axis=(1, 2)), -1)
    along = np.stack([slope[view, ..., axis] for view, axis in enumerate(_BEAM)])
    cosine = along**2 / np.maximum((slope**2).sum(-1), 1e-12)
    echo = np.exp(-((level / _WALL) ** 2)) * (0.25 + 0.75 * cosine)
    echo = echo + 0.12 * (level < 0) + 0.04
    if shadow:
        echo = echo * _shadows(rng, level.shape[1], shadow)
    echo = echo * 0.8 * rng.rayleigh(size=echo.shape)
    planes = np.log1p(20 * echo) / math.log(21)
    return np.stack([unit_range(plane) for plane in planes], -1)


def _shadows(rng, size, probability):
    """Attenuation 1, or 0.15 in a sector of 10 to 25 degrees, seen from the side of the beam."""
    grid = np.linspace(-1, 1, size)
    first, second = np.meshgrid(grid, grid, indexing="ij")
    out = np.ones((len(VIEWS), size, size))
    for view, axis in enumerate(_BEAM):
        on, middle, width = rng.uniform(size=3)
        depth, side = (first, second) if axis == 0 else (second, first)
        angle = np.rad2deg(np.arctan2(side, depth + 2))
        half = 5 + 7.5 * width
        if on < probability:
            out[view][np.abs(angle - (40 * middle - 20)) < half] = 0.15
    return out


def _turn(angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _about(axis, angle):
    """Rotation about one of three axes."""
    i, j = (k for k in range(3) if k != axis)
    out = np.eye(3)
    out[np.ix_((i, j), (i, j))] = _turn(angle)
    return out


def _generator(seed, number, stream):
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, number, stream))))
