"""Procedural glyphs with known factors: a stand-in for handwritten digits.

Ten classes of strokes. Class, stroke width and curvature are the appearance; rotation, scale and
shift are the perspective. Every factor is drawn on its own, so a model can be asked whether its
latent variables tell them apart.
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float

from jaxmedgen.data.randomness import sample_generator
from jaxmedgen.data.sources import DatasetInfo, Record

FACTORS = ("class", "width", "curvature", "rotation", "scale", "shift0", "shift1")
APPEARANCE = 3
"""So many of the factors are appearance, the others perspective."""

# Strokes of each class, corners in [-1, 1], first axis downwards. None looks like another one that
# is turned by less than 90 degrees.
_STROKES = (
    (((-1.0, 0.0), (1.0, 0.0)),),
    (((-1.0, -0.5), (1.0, -0.5)), ((1.0, -0.5), (1.0, 0.7))),
    (((-1.0, -0.8), (-1.0, 0.8)), ((-1.0, 0.0), (1.0, 0.0))),
    (((-0.3, -0.8), (-0.3, 0.8)), ((-1.0, 0.0), (1.0, 0.0))),
    (((-1.0, -0.7), (1.0, 0.0)), ((1.0, 0.0), (-1.0, 0.7))),
    (((-1.0, -0.7), (-1.0, 0.7)), ((-1.0, 0.7), (1.0, -0.7)), ((1.0, -0.7), (1.0, 0.7))),
    (((-1.0, -0.6), (1.0, -0.6)), ((0.0, -0.6), (0.0, 0.6)), ((-1.0, 0.6), (1.0, 0.6))),
    (((-1.0, 0.0), (0.8, -0.8)), ((0.8, -0.8), (0.8, 0.8)), ((0.8, 0.8), (-1.0, 0.0))),
    (((-1.0, -0.5), (1.0, -0.5)), ((-1.0, -0.5), (-1.0, 0.6)), ((-0.1, -0.5), (-0.1, 0.4))),
    (((-1.0, 0.4), (-1.0, -0.6)), ((-1.0, -0.6), (1.0, -0.6)), ((1.0, -0.6), (1.0, 0.6))),
)
CLASSES = len(_STROKES)
_SIZE = 0.5  # half height of a glyph of scale 1, in half pictures
_PIECES = 8  # straight pieces of a bent stroke


@dataclasses.dataclass(frozen=True)
class Glyphs:
    """`size` pictures, each a pure function of (seed, start + index).

    Attributes:
        size: number of pictures.
        shape: two axes of at least 16 pixels.
        seed: of all pictures.
        start: number of the first picture.
    """

    size: int
    shape: tuple[int, ...] = (28, 28)
    seed: int = 0
    start: int = 0

    def __post_init__(self) -> None:
        if len(self.shape) != 2 or min(self.shape) < 16:
            raise ValueError(f"shape {self.shape}: glyphs have two axes of at least 16 pixels")

    @property
    def info(self) -> DatasetInfo:
        """One channel; classes are in ``factors``, not in label maps."""
        return DatasetInfo(
            class_names=("background",),
            channel_names=("ink",),
            spacing=(1.0, 1.0),
            case_names=tuple(f"glyph-{self.start + i:06d}" for i in range(self.size)),
        )

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Record:
        """``image`` in [0, 1] and ``factors`` in the order of `FACTORS`.

        Rotation is in radians, width and shifts are in half pictures, scale is a factor.
        """
        rng = sample_generator(self.seed, self.start, index, self.size)
        factors = np.array(
            [
                rng.integers(CLASSES),
                rng.uniform(0.08, 0.24),
                rng.uniform(-0.35, 0.35),
                rng.uniform(-np.pi / 4, np.pi / 4),
                rng.uniform(0.7, 1.3),
                rng.uniform(-0.3, 0.3),
                rng.uniform(-0.3, 0.3),
            ]
        )
        return {
            "image": draw(factors, self.shape)[..., None].astype(np.float32),
            "factors": factors.astype(np.float32),
        }


def draw(factors: Float[np.ndarray, "7"], shape: tuple[int, ...]) -> Float[np.ndarray, "h w"]:
    """The picture of given factors, values in [0, 1]."""
    kind, width, curvature, rotation, scale, *shift = factors
    cos, sin = np.cos(rotation), np.sin(rotation)
    turn = np.array([[cos, -sin], [sin, cos]]) * scale
    a, b = (ends @ turn.T + shift for ends in _pieces(int(kind), float(curvature)))
    points = _grid(shape)[:, None]
    along = b - a
    share = ((points - a) * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-12)
    nearest = a + np.clip(share, 0, 1)[..., None] * along
    distance = np.sqrt(((points - nearest) ** 2).sum(-1)).min(-1)
    # Edges one pixel wide; the width belongs to the appearance, so it grows with the glyph.
    ink = 0.5 + (0.5 * width * scale - distance) * min(shape) / 2
    return np.clip(ink, 0, 1).reshape(shape)


def _pieces(kind: int, curvature: float) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the straight pieces of all strokes of a class, bent sideways."""
    starts, ends = [], []
    t = np.linspace(0, 1, (_PIECES if curvature else 1) + 1)[:, None]
    for first, last in np.asarray(_STROKES[kind]) * _SIZE:
        along = last - first
        normal = np.array([-along[1], along[0]])
        line = first + t * along + 4 * curvature * t * (1 - t) * normal * 0.5
        starts.append(line[:-1])
        ends.append(line[1:])
    return np.concatenate(starts), np.concatenate(ends)


@functools.cache
def _grid(shape: tuple[int, ...]) -> np.ndarray:
    """Pixel centres in half pictures, ``[h w, 2]``."""
    axes = [(2 * np.arange(n) + 1 - n) / min(shape) for n in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
