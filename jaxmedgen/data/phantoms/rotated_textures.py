"""Cubes of two textures: small bars and crosses at random rotations, in two mixtures.

The synthetic task of Andrearczyk et al., "Exploring local rotation invariance in 3D CNNs with
steerable filters", MIDL 2019: both classes hold bars and crosses, at a ratio of 3:7 or of 7:3. No
direction, position, brightness or density tells the classes apart.
"""

import dataclasses

import numpy as np

from jaxmedgen.data.phantoms.rotated_lesions import random_rotation
from jaxmedgen.data.randomness import sample_generator
from jaxmedgen.data.sources import DatasetInfo, Record

_TEMPLATE = 7
_WIDTH = 2.0
_SHARES = (0.3, 0.7)
_FINE = 4


@dataclasses.dataclass(frozen=True)
class RotatedTextures:
    """`size` cubes, each a pure function of (seed, start + index); classes take turns.

    Attributes:
        size: number of cubes.
        edge: edge of a cube in voxels, at least 8.
        seed: of all cubes.
        start: number of the first cube.
        density: range of the number of templates, as a share of ``edge^3 / 7^3``.
        noise: standard deviation of noise before the z-score, templates have the value 1.
    """

    size: int
    edge: int = 32
    seed: int = 0
    start: int = 0
    density: tuple[float, float] = (0.1, 0.5)
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.edge < 8:
            raise ValueError(f"edge {self.edge}: give at least 8 voxels for templates of 7")

    @property
    def info(self) -> DatasetInfo:
        """Class, channel and case names; spacing 1 mm."""
        return DatasetInfo(
            class_names=("mostly_crosses", "mostly_bars"),
            channel_names=("texture",),
            spacing=(1.0, 1.0, 1.0),
            case_names=tuple(f"texture-{self.start + i:05d}" for i in range(self.size)),
        )

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Record:
        """One z-scored cube; the ``label`` is its class, a scalar."""
        rng = sample_generator(self.seed, self.start, index, self.size)
        number = self.start + int(index)
        kind = number % 2
        cube = np.zeros((self.edge,) * 3, np.float32)
        places = (self.edge / _TEMPLATE) ** 3 * rng.uniform(*self.density)
        for _ in range(max(1, round(places))):
            template = draw_template(rng.random() < _SHARES[kind], random_rotation(rng, 3))
            corner = rng.integers(0, self.edge - _TEMPLATE + 1, 3)
            where = tuple(slice(c, c + _TEMPLATE) for c in corner)
            cube[where] = np.maximum(cube[where], template)
        cube += np.float32(self.noise) * rng.standard_normal(cube.shape, dtype=np.float32)
        cube = (cube - cube.mean()) / max(float(cube.std()), 1e-6)
        return {"image": cube[..., None].astype(np.float32), "label": np.int32(kind)}


def draw_template(bar: bool, rotation: np.ndarray) -> np.ndarray:
    """A bar of 2 x 2 x 7 voxels or a cross of two such bars, turned about its centre.

    Voxels hold the share of them that is covered, from 64 points each.

    Args:
        bar: bar or cross.
        rotation: matrix ``[3, 3]``.
    """
    fine = (np.arange(_TEMPLATE * _FINE) + 0.5) / _FINE - _TEMPLATE / 2
    points = np.stack(np.meshgrid(fine, fine, fine, indexing="ij"), -1) @ rotation
    half = _TEMPLATE / 2 - 0.25

    def covered(axis):
        across = np.abs(np.delete(points, axis, -1)).max(-1)
        return (np.abs(points[..., axis]) <= half) & (across <= _WIDTH / 2)

    shape = covered(0) if bar else covered(0) | covered(1)
    blocks = shape.reshape(_TEMPLATE, _FINE, _TEMPLATE, _FINE, _TEMPLATE, _FINE)
    return blocks.mean((1, 3, 5)).astype(np.float32)
