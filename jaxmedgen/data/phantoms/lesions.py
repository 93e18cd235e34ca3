"""Lesions in atlas space: white-matter hyperintensities and tumours with oedema.

A lesion is a smooth function of the atlas coordinate, so it bends with the subject and is the
same at every resolution. Hyperintensities are clusters of small ellipsoids in the white matter,
most of them close to the ventricles; a tumour is a lobed ball in one hemisphere with a core, an
enhancing rim, oedema that follows the white matter, and a mass effect on the velocity field.
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float, Int

from jaxmedgen.data.phantoms.atlas import Atlas, atlas, subject_grid
from jaxmedgen.data.phantoms.deform import VELOCITY_GRID

KINDS = ("wmh", "tumour")
"""What `BrainCohort.lesions` may name."""


@dataclasses.dataclass(frozen=True)
class Lesions:
    """Lesions of one subject; lengths in mm, positions in atlas (MNI) mm.

    Attributes:
        centres: of the ellipsoids that make up the hyperintensities, ``[n, 3]``.
        axes: their half-axes, ``[n, 3]``.
        lobes: centres of the tumour's balls, ``[m, 3]``; empty without a tumour.
        radii: their radii, ``[m]``.
        waves: wave vectors (radians a mm, ``[w, 3]``) that roughen the tumour's surface.
        phases: their phases, ``[w]``.
    """

    centres: Float[np.ndarray, "n 3"]
    axes: Float[np.ndarray, "n 3"]
    lobes: Float[np.ndarray, "m 3"]
    radii: Float[np.ndarray, " m"]
    waves: Float[np.ndarray, "w 3"]
    phases: Float[np.ndarray, " w"]


@functools.cache
def _sites() -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, " n"], Float[np.ndarray, "m 3"]]:
    """Where lesions may start: white-matter points with weights, and points deep in the brain."""
    reference: Atlas = atlas(subject_grid((48, 48, 48), False), False)
    names = reference.structures
    white = reference.maps[..., names.index("white")]
    away = reference.maps[..., -1]
    points = np.argwhere(white > 0.95)
    to_mm = reference.grid.affine
    mm = (points @ to_mm[:3, :3].T + to_mm[:3, 3]).astype(np.float32)
    distance = away[tuple(points.T)]
    keep = (mm[:, 2] > -5) & (np.abs(mm[:, 0]) > 8) & (distance > 2)
    mm, distance = mm[keep], distance[keep]
    weight = np.exp(-distance / 4.0) + 0.004
    x, y, z = mm.T
    deep = mm[(np.abs(x) > 22) & (np.abs(x) < 42) & (np.abs(y + 17) < 45) & (z > 0) & (z < 45)]
    return mm, weight / weight.sum(), deep


def draw(rng: np.random.Generator, kinds: tuple[str, ...]) -> Lesions:
    """Random lesions of `kinds` for one subject."""
    none = np.zeros((0, 3), np.float32)
    points, weight, deep = _sites() if kinds else (none, np.zeros(0, np.float32), none)
    centres, axes = np.zeros((0, 3)), np.zeros((0, 3))
    lobes, radii, waves, phases = np.zeros((0, 3)), np.zeros(0), np.zeros((0, 3)), np.zeros(0)
    if "wmh" in kinds:
        start = points[rng.choice(len(points), size=int(rng.integers(6, 20)), p=weight)]
        size = rng.lognormal(np.log(3.5), 0.35, len(start))
        # Three ellipsoids a lesion, the second and third shifted by about its radius.
        shift = rng.normal(0, 0.7, (3, len(start), 3)) * size[:, None]
        shift[0] = 0
        centres = (start + shift).reshape(-1, 3)
        axes = (size[:, None] * rng.uniform(0.6, 1.2, (3, len(start), 3))).reshape(-1, 3)
    if "tumour" in kinds:
        centre = deep[int(rng.integers(len(deep)))]
        size = rng.uniform(9.0, 17.0)
        lobes = centre + rng.normal(0, 0.45, (4, 3)) * size
        lobes[0] = centre
        radii = size * np.array([1.0, *rng.uniform(0.5, 0.85, 3)])
        waves = rng.normal(0, 0.18, (6, 3))
        phases = rng.uniform(0, 2 * np.pi, 6)
    fields = (centres, axes, lobes, radii, waves, phases)
    return Lesions(*(np.asarray(a, np.float32) for a in fields))


def mass_effect(lesions: Lesions) -> Float[np.ndarray, "x y z 3"]:
    """Velocity (mm, on the velocity grid) that pushes tissue off the tumour."""
    x, y, z = np.broadcast_arrays(*VELOCITY_GRID.axes())
    push = np.zeros((*VELOCITY_GRID.shape, 3), np.float32)
    if len(lesions.radii):
        offset = np.stack([x, y, z], -1) - lesions.lobes[0]
        radius = lesions.radii[0]
        distance2 = (offset**2).sum(-1, keepdims=True)
        push = 0.3 * offset * np.exp(-distance2 / (2 * (1.3 * radius) ** 2))
    return push.astype(np.float32)


def _within(
    points: Float[np.ndarray, "n 3"], centre: Float[np.ndarray, "3"], reach: float | np.floating
) -> Int[np.ndarray, " m"]:
    """Numbers of the points in the cube of half-width `reach`; an axis at a time, for speed."""
    left = np.arange(len(points))
    for axis in range(3):
        left = left[np.abs(points[left, axis] - centre[axis]) < reach]
    return left


def paint(
    lesions: Lesions, points: Float[np.ndarray, "n 3"], white: Float[np.ndarray, " n"]
) -> dict[str, Float[np.ndarray, " n"]]:
    """Partial volume of each lesion part at atlas positions.

    Args:
        lesions: of one subject.
        points: atlas coordinates in mm.
        white: partial volume of white matter there; hyperintensities and oedema stay inside it.

    Returns:
        ``lesion`` (hyperintensity and oedema), ``core`` and ``rim`` of the tumour.
    """
    parts = {name: np.zeros(len(points), np.float32) for name in ("lesion", "core", "rim")}
    # Few voxels can be hit; all others are left out before the loop.
    candidates = np.flatnonzero(white > 0.2) if len(lesions.centres) else np.zeros(0, np.int64)
    close = points[candidates]
    spots = np.zeros(len(candidates), np.float32)
    for centre, axes in zip(lesions.centres, lesions.axes):
        near = _within(close, centre, axes.max() + 2)
        radius = np.sqrt((((close[near] - centre) / axes) ** 2).sum(1))
        value = np.clip(0.5 + (1 - radius) * axes.mean() / 3.0, 0, 1)
        spots[near] = np.maximum(spots[near], value)
    parts["lesion"][candidates] = spots * np.clip(2 * white[candidates] - 0.4, 0, 1)
    if len(lesions.radii):
        reach = 2 * lesions.radii[0] + 45
        near = _within(points, lesions.lobes[0], reach)
        close = points[near]
        distance = np.full(len(near), np.inf, np.float32)
        for centre, radius in zip(lesions.lobes, lesions.radii):
            gap = np.sqrt(((close - centre) ** 2).sum(1)) - radius
            distance = np.minimum(distance, gap)
        angle = close @ lesions.waves.T
        distance += 1.1 * np.sin(angle + lesions.phases).sum(1)
        # The rim is 2 to 8 mm thick.
        thick = np.clip(5.0 + 1.2 * np.cos(angle).sum(1), 2, 8)
        solid = np.clip(0.5 - distance / 2.5, 0, 1)
        core = np.clip(0.5 - (distance + thick) / 2.5, 0, 1)
        oedema = np.clip(0.5 - (distance - 11.0) / 8.0, 0, 1)
        oedema *= np.clip(1.5 * white[near] - 0.2, 0, 1)
        parts["core"][near] = core
        parts["rim"][near] = solid - core
        parts["lesion"][near] = np.maximum(parts["lesion"][near], oedema) * (1 - solid)
    return parts
