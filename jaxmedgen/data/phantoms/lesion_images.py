"""Head-like images with lesions whose pose, gamma and bias field vary by a chosen amount.

For studies of augmentation under a shift: training images vary little, test images much, each kind
of variation by itself or all together. 2D or 3D. Everything is a smooth function of the canonical
coordinate, which the pose maps to, so nothing is ever interpolated.

A head is a skull around grey and white matter with two dark ventricles and, at the side of each, a
nucleus as bright and as large as a lesion. Lesions lie anywhere else in the white matter. They are
class 1; what makes a nucleus no lesion is its place relative to the ventricles.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from jaxmedgen.data.randomness import sample_generator
from jaxmedgen.data.sources import DatasetInfo, Record

_ROTATION = np.pi / 4
_LOG_SCALE = 0.35
_SHEAR = 0.15
_SHIFT = 0.12
_WAVES = 3
_BEND = 0.04
_LEVELS = {"skull": 0.85, "grey": 0.45, "white": 0.6, "ventricle": 0.15, "bright": 0.85}
_NOISE = 0.04


@dataclasses.dataclass(frozen=True)
class Shift:
    """How much images vary; 1 is strong, 0 nothing.

    Attributes:
        pose: rotation to 45 degrees, size by exp(0.35), shear, shift and smooth bending.
        gamma: exponents to ``exp(0.7)``.
        bias: log-polynomials of order 3 with coefficients to 0.5.
    """

    pose: float | int = 0.0
    gamma: float | int = 0.0
    bias: float | int = 0.0


@dataclasses.dataclass(frozen=True)
class LesionImages:
    """`size` images, each a pure function of (seed, start + index).

    Attributes:
        size: number of images.
        shape: two or three axes of at least 16 voxels.
        seed: of all images.
        start: number of the first image.
        shift: how much they vary.
        name: first part of the cases' names.
    """

    size: int
    shape: tuple[int, ...] = (64, 64)
    seed: int = 0
    start: int = 0
    shift: Shift = Shift()
    name: str = "lesions"

    def __post_init__(self) -> None:
        if len(self.shape) not in (2, 3) or min(self.shape) < 16:
            raise ValueError(f"shape {self.shape}: give two or three axes of at least 16 voxels")

    @property
    def info(self) -> DatasetInfo:
        """Class, channel and case names; spacing 1 mm."""
        return DatasetInfo(
            class_names=("background", "lesion"),
            channel_names=("image",),
            spacing=(1.0,) * len(self.shape),
            case_names=tuple(f"{self.name}-{self.start + i:05d}" for i in range(self.size)),
        )

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Record:
        """One image, z-scored over the picture, and its label."""
        rng = sample_generator(self.seed, self.start, index, self.size)
        centres = [(2 * np.arange(n) + 1) / n - 1 for n in self.shape]
        grid = np.stack(np.meshgrid(*centres, indexing="ij"), -1)
        # Units of the shortest half axis, so that rotations keep angles.
        points = grid * (np.asarray(self.shape) / min(self.shape))
        points = _pose(rng, points, self.shift.pose)
        sharpness = 0.5 * min(self.shape)  # edges are one voxel wide
        image, lesion = _head(rng, points, sharpness)
        image = np.clip(image + _NOISE * rng.standard_normal(image.shape), 0, 1)
        image = image ** np.exp(rng.uniform(-0.7, 0.7) * self.shift.gamma)
        image *= np.exp(_polynomial(rng, grid, 0.5 * self.shift.bias))
        image = (image - image.mean()) / max(image.std(), 1e-6)
        return {
            "image": image[..., None].astype(np.float32),
            "label": (lesion > 0.5).astype(np.int32),
        }


def _pose(
    rng: np.random.Generator, points: Float[np.ndarray, "*s n"], strength: float | int
) -> Float[np.ndarray, "*s n"]:
    """Canonical coordinates that the voxels of a posed head look at."""
    rank = points.shape[-1]
    matrix = np.eye(rank) * np.exp(rng.uniform(-_LOG_SCALE, _LOG_SCALE, rank) * strength)
    for i in range(rank):
        for j in range(i + 1, rank):
            angle = rng.uniform(-_ROTATION, _ROTATION) * strength
            turn, shear = np.eye(rank), np.eye(rank)
            turn[[i, j], [i, j]] = np.cos(angle)
            turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
            shear[i, j] = rng.uniform(-_SHEAR, _SHEAR) * strength
            matrix = matrix @ shear @ turn
    moved = points @ matrix.T + rng.uniform(-_SHIFT, _SHIFT, rank) * strength
    for _ in range(_WAVES):
        wave, phase = rng.normal(0, 2.0, rank), rng.uniform(0, 2 * np.pi)
        bend = rng.normal(0, _BEND, rank) * strength
        moved = moved + np.sin(points @ wave + phase)[..., None] * bend
    return moved


def _head(
    rng: np.random.Generator, points: Float[np.ndarray, "*s n"], sharpness: float | int
) -> tuple[Float[np.ndarray, "*s"], Float[np.ndarray, "*s"]]:
    """Intensities in 0..1 and the lesions' partial volume."""
    rank = points.shape[-1]

    def inside(centre, axes):
        radius = np.sqrt((((points - centre) / axes) ** 2).sum(-1))
        return np.clip(0.5 + (1 - radius) * float(np.mean(axes)) * sharpness, 0, 1)

    def paint(image, part, level):
        return image + part * (level - image)

    axes = np.array([0.82, 0.66, 0.74])[:rank] * rng.uniform(0.95, 1.05, rank)
    image = paint(np.zeros(points.shape[:-1]), inside(0.0, axes), _LEVELS["skull"])
    image = paint(image, inside(0.0, axes - 0.07), _LEVELS["grey"])
    image = paint(image, inside(0.0, axes - 0.17), _LEVELS["white"])
    taken = []  # (centre, radius) that lesions keep away from
    for side in (-1.0, 1.0):
        centre = np.zeros(rank)
        centre[1] = 0.13 * side
        size = np.array([0.26, 0.06, 0.12])[:rank] * rng.uniform(0.85, 1.15)
        image = paint(image, inside(centre, size), _LEVELS["ventricle"])
        nucleus = centre + 0.13 * side * np.eye(rank)[1]
        nucleus[0] += rng.uniform(-0.1, 0.1)
        size = rng.uniform(0.06, 0.12, rank)
        image = paint(image, inside(nucleus, size), _LEVELS["bright"])
        taken += [(centre, 0.24), (nucleus, 0.14)]
    lesion = np.zeros_like(image)
    for _ in range(int(rng.integers(1, 5))):
        for _ in range(50):
            centre = rng.uniform(-1, 1, rank) * (axes - 0.27)
            within = ((centre / (axes - 0.27)) ** 2).sum() < 1
            if within and all(np.linalg.norm(centre - c) > r + 0.06 for c, r in taken):
                break
        else:
            continue
        size = rng.uniform(0.06, 0.12, rank)
        taken.append((centre, 0.14))
        lesion = np.maximum(lesion, inside(centre, size))
    return paint(image, lesion, _LEVELS["bright"]), lesion


def _polynomial(
    rng: np.random.Generator, grid: Float[np.ndarray, "*s n"], strength: float | int
) -> Float[np.ndarray, "*s"]:
    """Random polynomial of order 3 with coefficients up to `strength`."""
    total = np.zeros(grid.shape[:-1])
    for powers in np.ndindex(*(4,) * grid.shape[-1]):
        if 0 < sum(powers) <= 3:
            total += rng.uniform(-strength, strength) * np.prod(grid**powers, axis=-1)
    return total
