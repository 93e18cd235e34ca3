"""Vessel junctions in small pictures: straight, corner, T and cross, at any rotation.

Few of them train a generative model of each class. The rotation makes a ring of each class in
latent space, so that a normal prior also hits the ring's hole and shows several orientations at
once, which looks like another class.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from jaxmedgen.data.randomness import sample_generator
from jaxmedgen.data.sources import DatasetInfo, Record

JUNCTIONS = ("straight", "corner", "tee", "cross")
_ARMS = ((0, 180), (0, 90), (0, 90, 180), (0, 90, 180, 270))  # degrees
_CENTRE = 0.6  # pixels
_LENGTH = (6.5, 8.5)  # pixels
_WIDTH = (1.0, 1.5)  # standard deviation of the profile, pixels
_BEND = 4.0  # degrees
_VESSEL = 0.5


@dataclasses.dataclass(frozen=True)
class VesselJunctions:
    """`size` pictures, each a pure function of (seed, start + index); classes take turns.

    Attributes:
        size: number of pictures.
        shape: two axes of at least 20 pixels.
        seed: of all pictures.
        start: number of the first picture.
    """

    size: int
    shape: tuple[int, ...] = (20, 20)
    seed: int = 0
    start: int = 0

    def __post_init__(self) -> None:
        if len(self.shape) != 2 or min(self.shape) < 20:
            raise ValueError(f"shape {self.shape}: junctions have two axes of at least 20 pixels")

    @property
    def info(self) -> DatasetInfo:
        """One channel, vessels as a label; the junction's class is ``kind`` of a record."""
        return DatasetInfo(
            class_names=("background", "vessel"),
            channel_names=("vessel",),
            spacing=(1.0, 1.0),
            case_names=tuple(f"junction-{self.start + i:06d}" for i in range(self.size)),
        )

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Record:
        """``image`` in [0, 1], ``label`` (vessel), ``kind``: index in `JUNCTIONS`."""
        rng = sample_generator(self.seed, self.start, index, self.size)
        kind = (self.start + int(index)) % len(JUNCTIONS)
        image = draw(kind, self.shape, rng)
        return {
            "image": image[..., None].astype(np.float32),
            "label": (image > _VESSEL).astype(np.int32),
            "kind": np.int32(kind),
        }


def draw(kind: int, shape: tuple[int, ...], rng: np.random.Generator) -> Float[np.ndarray, "h w"]:
    """A junction of a class: arms from a centre with Gaussian profiles, values in [0, 1]."""
    centre = (np.array(shape) - 1) / 2 + _CENTRE * rng.standard_normal(2)
    angles = np.deg2rad(np.array(_ARMS[kind]) + _BEND * rng.standard_normal(len(_ARMS[kind])))
    angles = angles + rng.uniform(0, 2 * np.pi)
    ends = rng.uniform(*_LENGTH, len(angles))
    width = rng.uniform(*_WIDTH)
    along = np.stack([np.cos(angles), np.sin(angles)], -1)
    points = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) - centre
    place = np.clip(points @ along.T, 0, ends)
    offset = points[:, :, None] - place[..., None] * along
    return np.exp(-0.5 * (offset**2).sum(-1).min(-1) / width**2)
