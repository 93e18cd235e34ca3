"""Brain-like images whose shapes come from a hidden family of few deformations.

A template (brain, two ventricles, two nuclei, small bright lesions beside the ventricles) is seen
through ``Exp(sum_k c_k v_k)``, with fixed smooth velocities v_k and coefficients ``c ~ N(0, I)``:
what a model of shape variability should find. 2D or 3D. The picture is a smooth function of the
canonical coordinate, so nothing is interpolated twice.
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from jaxmedgen.data.randomness import sample_generator
from jaxmedgen.data.sources import DatasetInfo, Record

CLASSES = ("background", "brain", "ventricle", "lesion")
_SQUARINGS = 6
_LEVELS = {"brain": 0.5, "ventricle": 0.1, "nucleus": 0.75, "lesion": 0.95}


@dataclasses.dataclass(frozen=True)
class Population:
    """`size` subjects, each a pure function of (seed, start + index).

    Attributes:
        size: number of subjects.
        shape: two or three axes of at least 16 voxels.
        seed: of the subjects.
        start: number of the first subject.
        modes: dimension of the family of shapes.
        strength: root mean square of the velocity of one mode, in parts of the shortest axis.
        smoothness: width of the velocities, likewise.
        noise: standard deviation of the noise; intensities lie in [0, 1] before.
        jitter: of the lesions' places and sizes, in half axes: it is not part of the shape.
        family: seed of the velocities, the same for training and test subjects.
    """

    size: int
    shape: tuple[int, ...] = (64, 64)
    seed: int = 0
    start: int = 0
    modes: int = 4
    strength: float = 0.03
    smoothness: float = 0.16
    noise: float = 0.04
    jitter: float = 0.03
    family: int = 0

    def __post_init__(self) -> None:
        if len(self.shape) not in (2, 3) or min(self.shape) < 16:
            raise ValueError(f"shape {self.shape}: give two or three axes of at least 16 voxels")
        if self.modes < 0 or self.size < 0:
            raise ValueError(f"modes {self.modes}, size {self.size}: give 0 or more")

    @property
    def info(self) -> DatasetInfo:
        """Class, channel and case names; spacing 1 mm."""
        return DatasetInfo(
            class_names=CLASSES,
            channel_names=("image",),
            spacing=(1.0,) * len(self.shape),
            case_names=tuple(f"subject-{self.start + i:05d}" for i in range(self.size)),
        )

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Record:
        """``image`` z-scored over the picture, ``label``, and ``coefficients`` c of the shape."""
        rng = sample_generator(self.seed, self.start, index, self.size)
        coefficients = rng.standard_normal(self.modes)
        fields = modes(self.shape, self.modes, self.strength, self.smoothness, self.family)
        moved = _exponential(np.tensordot(coefficients, fields, 1)) if self.modes else 0.0
        voxels = np.stack(np.meshgrid(*map(np.arange, self.shape), indexing="ij"), -1) + moved
        points = (2 * voxels + 1 - np.asarray(self.shape)) / min(self.shape)
        image, label = _template(rng, points, 0.5 * min(self.shape), self.jitter)
        image = image + self.noise * rng.standard_normal(image.shape)
        image = (image - image.mean()) / image.std()
        return {
            "image": image[..., None].astype(np.float32),
            "label": label,
            "coefficients": coefficients.astype(np.float32),
        }


@functools.lru_cache(maxsize=8)
def modes(
    shape: tuple[int, ...], count: int, strength: float, smoothness: float, family: int
) -> Float[np.ndarray, "m *s n"]:
    """The velocities v_k in voxels, orthogonal to each other, each of the given strength."""
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence((family, 11))))
    rank, side = len(shape), min(shape)
    fields = []
    for _ in range(count):
        noise = rng.standard_normal((*shape, rank))
        field = ndimage.gaussian_filter(noise, (*(smoothness * side,) * rank, 0), mode="constant")
        for other in fields:
            field = field - other * (field * other).sum() / (other**2).sum()
        fields.append(field * (strength * side / np.sqrt((field**2).sum(-1).mean())))
    return np.reshape(fields, (count, *shape, rank))


def _exponential(velocity: Float[np.ndarray, "*s n"]) -> Float[np.ndarray, "*s n"]:
    """Displacement of the flow at time 1, scaling and squaring."""
    grid = np.stack(np.meshgrid(*map(np.arange, velocity.shape[:-1]), indexing="ij"))
    u = np.moveaxis(velocity, -1, 0) / 2**_SQUARINGS
    for _ in range(_SQUARINGS):
        at = grid + u
        u = u + np.stack([ndimage.map_coordinates(c, at, order=1, mode="nearest") for c in u])
    return np.moveaxis(u, 0, -1)


def _template(
    rng: np.random.Generator,
    points: Float[np.ndarray, "*s n"],
    sharpness: float,
    jitter: float,
) -> tuple[Float[np.ndarray, "*s"], Int[np.ndarray, "*s"]]:
    """Intensities in 0..1 and classes at canonical coordinates."""
    rank = points.shape[-1]

    def inside(centre, axes):
        radius = np.sqrt((((points - centre[:rank]) / axes[:rank]) ** 2).sum(-1))
        return np.clip(0.5 + (1 - radius) * float(np.mean(axes[:rank])) * sharpness, 0, 1)

    def part(name, centre, axes, value=None):
        nonlocal image
        share = inside(np.asarray(centre), np.asarray(axes))
        image = image + share * (_LEVELS[name] - image)
        if value is not None:
            label[share > 0.5] = value

    image = np.zeros(points.shape[:-1])
    label = np.zeros(points.shape[:-1], np.int32)
    part("brain", (0.0, 0.0, 0.0), (0.78, 0.62, 0.66), 1)
    for side in (-1.0, 1.0):
        part("ventricle", (0.0, 0.14 * side, 0.0), (0.30, 0.08, 0.14), 2)
        part("nucleus", (0.05, 0.36 * side, 0.0), (0.16, 0.08, 0.1))
    for centre in ((-0.42, 0.2, 0.0), (0.40, -0.22, 0.05), (0.42, 0.24, -0.05)):
        place = np.asarray(centre) + jitter * rng.standard_normal(3)
        part("lesion", place, 0.075 + 0.5 * jitter * rng.uniform(-1, 1, 3), 3)
    return image, label
