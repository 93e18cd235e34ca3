"""Ellipses and boxes with noisy intensities, in 2D or 3D: a source that costs almost nothing.

For tests and first runs. Class 1 is an ellipse (ellipsoid), class 2 a rotated box; each sample has
one of both at random pose and size on a darker background.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from jaxmedgen.data.randomness import sample_generator
from jaxmedgen.data.sources import DatasetInfo, Record


@dataclasses.dataclass(frozen=True)
class Shapes:
    """`size` pictures, each a pure function of (seed, start + index).

    Attributes:
        size: number of samples.
        shape: two or three axes, any lengths from 4.
        seed: of all samples.
        channels: image channels; the second class is brightest in the first, darkest in the
            second, and so on in turn.
        noise: standard deviation of the noise; the classes are 1 apart.
        start: number of the first sample.
    """

    size: int
    shape: tuple[int, ...] = (64, 64)
    seed: int = 0
    channels: int = 1
    noise: float = 0.2
    start: int = 0

    def __post_init__(self) -> None:
        if len(self.shape) not in (2, 3) or min(self.shape) < 4:
            raise ValueError(f"shape {self.shape}: give two or three axes of at least 4 voxels")
        if self.channels < 1 or self.size < 0:
            raise ValueError(
                f"channels {self.channels}, size {self.size}: give at least 1 channel, 0 samples"
            )

    @property
    def info(self) -> DatasetInfo:
        """Class, channel and case names; spacing 1 mm."""
        return DatasetInfo(
            class_names=("background", "ellipse", "box"),
            channel_names=tuple(f"channel{k}" for k in range(self.channels)),
            spacing=(1.0,) * len(self.shape),
            case_names=tuple(f"shapes-{self.seed}-{self.start + i:05d}" for i in range(self.size)),
        )

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Record:
        """One picture: image z-scored over the picture, and its label."""
        rng = sample_generator(self.seed, self.start, index, self.size)
        rank = len(self.shape)
        half = (np.asarray(self.shape, np.float32) - 1) / 2
        grid = np.stack(
            np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in self.shape),
                        indexing="ij"),
            axis=-1,
        )  # fmt: skip
        # Work in units of the shortest half axis, so that rotations keep angles.
        grid *= half / half.min()
        room = half / half.min()
        label = np.zeros(self.shape, np.int32)
        # Opposite sides of the picture, so that the second shape never hides the first.
        side = rng.choice([-1.0, 1.0])
        axis = int(np.argmax(self.shape))
        for value in (1, 2):
            centre = rng.uniform(-0.3, 0.3, rank) * room
            centre[axis] = side * 0.45 * room[axis]
            side = -side
            axes = rng.uniform(0.2, 0.42, rank)
            local = np.abs((grid - centre.astype(np.float32)) @ _rotation(rng, rank)) / axes
            radius = np.sqrt((local**2).sum(-1)) if value == 1 else 1.2 * local.max(-1)
            label[radius < 1] = value
        means = np.stack(
            [np.array([0.0, 1.0, 2.0]) if k % 2 == 0 else np.array([2.0, 1.0, 0.0])
             for k in range(self.channels)],
            axis=-1,
        )  # fmt: skip
        image = means.astype(np.float32)[label]
        image += np.float32(self.noise) * rng.standard_normal(image.shape, dtype=np.float32)
        space = tuple(range(rank))
        image = (image - image.mean(space)) / np.maximum(image.std(space), 1e-6)
        return {"image": image.astype(np.float32), "label": label}


def _rotation(rng: np.random.Generator, rank: int) -> Float[np.ndarray, "n n"]:
    """A random rotation (Haar), by QR of a Gaussian matrix with the signs fixed."""
    q, r = np.linalg.qr(rng.standard_normal((rank, rank)))
    q = q * np.sign(np.diag(r))
    q[:, 0] *= np.sign(np.linalg.det(q))
    return q.astype(np.float32)
