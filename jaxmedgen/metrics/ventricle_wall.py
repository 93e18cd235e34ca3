"""Wall thickness of left ventricles over their inner surface, and its means in AHA segments.

Surfaces are those of 1/2 in a map of probabilities, so thickness is not counted in voxels: the
distance in mm of every vertex of the inner surface to the outer one. Ventricles are aligned: long
axis along the first array axis, apex at index 0; septum at the low end of the last axis, anterior
wall at the low end of the middle one. The plane of the base belongs to neither surface.

Segments: Cerqueira et al., "Standardized myocardial segmentation and nomenclature for tomographic
imaging of the heart", Circulation 105, 2002.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from jaxmedgen.metrics.laplace_thickness import laplace_thickness

Method = Literal["distance", "laplace"]
SEGMENTS = 17
_APEX = 0.06
"""Share of the length that is the apical cap, segment 17."""
_NEIGHBOURS = 6


@dataclasses.dataclass(frozen=True)
class WallSurface:
    """The inner surface of a ventricle's muscle.

    Attributes:
        points: vertices in mm, voxel 0 at the origin.
        faces: triangles, numbers of vertices.
        thickness: of the wall at the vertices, mm.
        angle: of the vertices about the axis in radians: 0 septum, pi/2 anterior.
        level: of the vertices, 0 apex to 1 base.
    """

    points: Float[np.ndarray, "p 3"]
    faces: Int[np.ndarray, "f 3"]
    thickness: Float[np.ndarray, " p"]
    angle: Float[np.ndarray, " p"]
    level: Float[np.ndarray, " p"]


def cavity(muscle: Bool[np.ndarray, "d h w"]) -> Bool[np.ndarray, "d h w"]:
    """What the muscle encloses in each plane across the long axis: the blood."""
    return np.stack([ndimage.binary_fill_holes(plane) for plane in muscle]) & ~muscle


def wall_surface(
    probability: Shaped[np.ndarray, "d h w"],
    spacing: Sequence[float | int],
    method: Method | str = "distance",
) -> WallSurface:
    """Wall thickness at every vertex of the inner surface.

    Args:
        probability: of muscle, or a mask.
        spacing: mm a voxel along every axis.
        method: ``distance`` to the outer surface, or ``laplace``: along field lines, in steps of a
            voxel, see `laplace_thickness`.

    Raises:
        ValueError: the muscle encloses nothing; another method.
    """
    if method not in ("distance", "laplace"):
        raise ValueError(f"method='{method}': choose distance or laplace")
    probability = np.asarray(probability, np.float64)
    muscle = probability > 0.5
    blood = cavity(muscle)
    planes = np.flatnonzero(blood.any((1, 2)))
    if len(planes) < 3:
        raise ValueError(
            f"the muscle ({int(muscle.sum())} voxels) encloses blood in {len(planes)} planes across"
            " the first axis: a wall has a thickness where there are at least 3"
        )
    # 1/2 is crossed at the muscle's inner border in the first map, at its outer in the second.
    inner, faces = _surface(np.where(muscle | blood, 1 - probability, 0.0), spacing)
    outer, _ = _surface(np.where(blood, 1.0, probability), spacing)
    base = (planes[-1] - 0.5) * spacing[0]
    inner, faces = _below(inner, faces, base)
    outer = outer[outer[:, 0] <= base + spacing[0]]
    if method == "distance":
        thickness, _ = cKDTree(outer).query(inner)
    else:
        beyond = np.zeros_like(muscle)
        beyond[planes[-1] + 1 :] = True
        field = laplace_thickness(muscle, blood, spacing, beyond)
        measured = np.argwhere(np.isfinite(field))
        _, nearest = cKDTree(measured * np.asarray(spacing)).query(inner)
        thickness = field[tuple(measured[nearest].T)]
    middle = ndimage.center_of_mass(blood)
    across = inner[:, 1:] - np.asarray(middle[1:]) * np.asarray(spacing[1:])
    apex = inner[:, 0].min()
    return WallSurface(
        points=inner,
        faces=faces,
        thickness=thickness,
        angle=np.arctan2(-across[:, 0], -across[:, 1]),
        level=(inner[:, 0] - apex) / (base - apex),
    )


def aha_segments(
    angle: Float[np.ndarray, " p"], level: Float[np.ndarray, " p"]
) -> Int[np.ndarray, " p"]:
    """Numbers 1..17: six basal and six mid-cavity segments, four apical ones, the apex."""
    degrees = np.rad2deg(angle)
    sixth = ((120 - degrees) % 360 // 60).astype(int)
    fourth = ((135 - degrees) % 360 // 90).astype(int)
    segment = np.where(level >= 2 / 3, 1 + sixth, np.where(level >= 1 / 3, 7 + sixth, 13 + fourth))
    return np.where(level < _APEX, SEGMENTS, segment)


def segment_means(surface: WallSurface) -> Float[np.ndarray, "17"]:
    """Mean thickness in mm of the AHA segments; NaN for one without vertices."""
    segment = aha_segments(surface.angle, surface.level)
    means = np.full(SEGMENTS, np.nan)
    for number in np.unique(segment):
        means[number - 1] = surface.thickness[segment == number].mean()
    return means


def thickness_map(
    surface: WallSurface, angles: int = 36, levels: int = 10
) -> Float[np.ndarray, "levels angles"]:
    """Thickness in mm on a grid of angles (from -pi on) and levels (apex first), as a flat map.

    Means of the nearest vertices: maps of different hearts can be subtracted from each other.
    """
    angle, level = map_grid(angles, levels)
    tree = cKDTree(_placed(surface.angle, surface.level))
    distance, index = tree.query(_placed(angle, level), k=min(_NEIGHBOURS, len(surface.points)))
    weight = 1 / (distance + 1e-3)
    values = (weight * surface.thickness[index]).sum(-1) / weight.sum(-1)
    return values.reshape(levels, angles)


def map_grid(angles: int = 36, levels: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Angle and level of the cells of `thickness_map`, flat; 5 % at either end are left out."""
    angle = (np.arange(angles) + 0.5) * (2 * np.pi / angles) - np.pi
    level = np.linspace(0.05, 0.95, levels)
    level, angle = np.meshgrid(level, angle, indexing="ij")
    return angle.ravel(), level.ravel()


def _placed(angle, level):
    """Angles and levels as points of a cylinder about as high as a ventricle is."""
    return np.stack([np.cos(angle), np.sin(angle), 3 * level], -1)


def _surface(field, spacing):
    padded = np.pad(field, 1)
    vertices, faces, _, _ = marching_cubes(padded, 0.5, spacing=tuple(map(float, spacing)))
    return vertices.astype(np.float64) - np.asarray(spacing, np.float64), faces


def _below(points, faces, height):
    """The part of a surface below a plane across the first axis."""
    kept = points[:, 0] <= height
    number = np.cumsum(kept) - 1
    faces = faces[kept[faces].all(1)]
    return points[kept], number[faces]
