"""Ellipsoidal brains with lesions of two classes that differ in shape only: bars and L-shapes.

For studies of equivariance: what a lesion is follows from its own shape, never from its direction
in the scanner, its size or brightness. Poses are fixed, one of the right-angle turns, or any
rotation. 2D or 3D; everything is a smooth function of coordinates, so nothing is interpolated.
"""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Float

from jaxmedgen.data.phantoms.scanner import rician
from jaxmedgen.data.randomness import sample_generator
from jaxmedgen.data.sources import DatasetInfo, Record
from jaxmedgen.ops.groups import point_group

Pose = Literal["canonical", "axis", "random"]
POSES = ("canonical", "axis", "random")

_BRAIN = (0.92, 0.8, 0.7)
_LEVEL, _LESION = 0.5, 0.9
_NOISE = 0.04
_BIAS = 0.1
_WIDTH = 0.14
_LENGTH = 0.72
_TRIALS = 60


@dataclasses.dataclass(frozen=True)
class RotatedLesions:
    """`size` volumes, each a pure function of (seed, start + index).

    One to three lesions a volume. A bar is a straight tube, an L two tubes of half its length at a
    right angle; so both have the same length and thickness.

    Attributes:
        size: number of volumes.
        shape: two or three axes of at least 16 voxels.
        seed: of all volumes.
        start: number of the first volume.
        pose: ``canonical``: bars along the first axis, Ls along the first two; ``axis``: brain and
            lesions turned by right angles; ``random``: any rotation, each lesion its own.
        name: first part of the cases' names.
    """

    size: int
    shape: tuple[int, ...] = (24, 24, 24)
    seed: int = 0
    start: int = 0
    pose: Pose = "canonical"
    name: str = "volume"

    def __post_init__(self) -> None:
        if len(self.shape) not in (2, 3) or min(self.shape) < 16:
            raise ValueError(f"shape {self.shape}: give two or three axes of at least 16 voxels")
        if self.pose not in POSES:
            raise ValueError(f"pose {self.pose!r}: choose one of {', '.join(POSES)}")

    @property
    def info(self) -> DatasetInfo:
        """Class, channel and case names; spacing 1 mm."""
        return DatasetInfo(
            class_names=("background", "bar", "l_shape"),
            channel_names=("image",),
            spacing=(1.0,) * len(self.shape),
            case_names=tuple(f"{self.name}-{self.start + i:05d}" for i in range(self.size)),
        )

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Record:
        """One volume, z-scored within the brain and 0 outside, and its label."""
        rng = sample_generator(self.seed, self.start, index, self.size)
        centres = [(2 * np.arange(n) + 1) / n - 1 for n in self.shape]
        points = np.stack(np.meshgrid(*centres, indexing="ij"), -1)
        points *= np.asarray(self.shape) / min(self.shape)
        rank = len(self.shape)
        whole = self._rotation(rng, rank)
        points = points @ whole  # coordinates of the brain in its canonical pose
        axes = np.array(_BRAIN[:rank]) * rng.uniform(0.95, 1.05, rank)
        sharpness = 0.5 * min(self.shape)  # edges are one voxel wide
        brain = np.clip(0.5 + (1 - np.linalg.norm(points / axes, axis=-1)) * sharpness, 0, 1)
        image, label = _LEVEL * brain, np.zeros(self.shape, np.int32)
        for kind, tubes in self._lesions(rng, axes, rank):
            part = np.clip(0.5 + (_WIDTH - _distance(points, tubes)) * sharpness, 0, 1)
            image += part * (_LESION - image)
            label[part > 0.5] = kind
        image = rician(rng, image * _gain(rng, points), _NOISE)
        inside = brain > 0.5
        image = np.where(inside, (image - image[inside].mean()) / image[inside].std(), 0.0)
        return {"image": image[..., None].astype(np.float32), "label": label}

    def _rotation(self, rng, rank):
        if self.pose == "canonical":
            return np.eye(rank)
        if self.pose == "axis":
            matrices = point_group("O" if rank == 3 else "p4").matrices
            return matrices[rng.integers(len(matrices))].astype(float)
        return random_rotation(rng, rank)

    def _lesions(self, rng, axes, rank):
        """Kind and tubes of one to three lesions that keep apart and within the brain."""
        placed = []
        for _ in range(int(rng.integers(1, 4))):
            kind = int(rng.integers(1, 3))
            frame = random_rotation(rng, rank) if self.pose == "random" else np.eye(rank)
            for _ in range(_TRIALS):
                tubes = _tubes(kind, rng.uniform(-0.7, 0.7, rank), frame)
                ends = tubes.reshape(-1, rank)
                # Ends stay a tube's width and a half within the brain.
                fits = (np.linalg.norm(ends / (axes - 1.5 * _WIDTH), axis=-1) < 1).all()
                along = np.linspace(0, 1, 9)[:, None, None]
                path = (tubes[:, 0] + along * (tubes[:, 1] - tubes[:, 0])).reshape(-1, rank)
                if fits and all(_distance(path, t).min() > 3.2 * _WIDTH for _, t in placed):
                    placed.append((kind, tubes))
                    break
        return placed


def random_rotation(rng: np.random.Generator, rank: int) -> Float[np.ndarray, "n n"]:
    """A rotation drawn uniformly (Haar): QR of a Gaussian matrix with the signs fixed."""
    q, r = np.linalg.qr(rng.standard_normal((rank, rank)))
    q = q * np.sign(np.diag(r))
    q[:, 0] *= np.sign(np.linalg.det(q))
    return q


def _tubes(kind, centre, frame):
    """End points ``[tubes, 2, n]`` of a bar (1) or an L (2) with some centre of mass."""
    first, second = frame[:, 0], frame[:, 1]
    if kind == 1:
        half = 0.5 * _LENGTH * first
        return np.stack([centre - half, centre + half])[None]
    arm = 0.5 * _LENGTH
    corner = centre - 0.25 * arm * (first + second)
    return np.stack([[corner, corner + arm * first], [corner, corner + arm * second]])


def _distance(points, tubes):
    """Distance of points from the nearest of some line segments."""
    distances = []
    for start, end in tubes:
        along = end - start
        t = np.clip((points - start) @ along / (along @ along), 0, 1)
        distances.append(np.linalg.norm(points - start - t[..., None] * along, axis=-1))
    return np.min(distances, axis=0)


def _gain(rng, points):
    """A smooth bias field: exp of a random quadratic."""
    rank = points.shape[-1]
    linear, quadratic = rng.normal(0, _BIAS, rank), rng.normal(0, _BIAS, (rank, rank))
    return np.exp(points @ linear + 0.5 * np.einsum("...i,ij,...j->...", points, quadratic, points))
