"""Surfaces of volumes as triangle meshes, written as STL or VTK.

Marching cubes by scikit-image, files by meshio.
"""

import dataclasses
import os
import pathlib

import meshio
import numpy as np
from jaxtyping import Float, Int
from skimage.measure import marching_cubes

SUFFIXES = (".stl", ".vtk")


@dataclasses.dataclass(frozen=True)
class Mesh:
    """A closed triangle mesh.

    Attributes:
        vertices: positions in mm, world axes.
        faces: three vertices each, counter-clockwise seen from outside.
        values: one number a vertex (say an uncertainty), or None.
    """

    vertices: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]
    values: Float[np.ndarray, " v"] | None = None


def surface_mesh(
    volume: Float[np.ndarray, "x y z"],
    affine: Float[np.ndarray, "4 4"],
    level: float = 0.5,
    colour: Float[np.ndarray, "x y z"] | None = None,
) -> Mesh:
    """The surface of a volume at a level, closed also where it touches the volume's border.

    Args:
        volume: say probabilities, larger inside.
        affine: voxel index to mm.
        level: of the surface.
        colour: volume on the same grid, sampled at the vertices (nearest voxel).

    Raises:
        ValueError: the level is nowhere in the volume: there is no surface.
    """
    if not volume.min() < level < volume.max():
        raise ValueError(
            f"no surface at level {level}: the volume has values {volume.min():.3g} to "
            f"{volume.max():.3g}"
        )
    outside = min(float(volume.min()), level - 0.5)
    padded = np.pad(volume.astype(np.float32), 1, constant_values=outside)
    vertices, faces, _, _ = marching_cubes(padded, level, gradient_direction="ascent")
    vertices = vertices - 1
    values = None
    if colour is not None:
        where = np.clip(np.rint(vertices).astype(int), 0, np.asarray(volume.shape) - 1)
        values = colour[tuple(where.T)].astype(np.float64)
    # A reflecting affine turns the triangles inside out.
    if np.linalg.det(affine[:3, :3]) < 0:
        faces = faces[:, ::-1]
    world = vertices @ affine[:3, :3].T + affine[:3, 3]
    return Mesh(np.asarray(world, np.float64), np.ascontiguousarray(faces, np.int64), values)


def write_mesh(path: str | os.PathLike, mesh: Mesh) -> pathlib.Path:
    """Writes a mesh as ``.stl`` (binary, geometry only) or ``.vtk`` (with its values).

    Raises:
        ValueError: another file name.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: meshes are written as {' or '.join(SUFFIXES)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {} if mesh.values is None or path.suffix == ".stl" else {"value": mesh.values}
    written = meshio.Mesh(mesh.vertices, [("triangle", mesh.faces)], point_data=data)
    partial = path.with_name(f".{path.name}.partial{path.suffix}")
    meshio.write(partial, written, file_format=path.suffix[1:].lower(), binary=True)
    os.replace(partial, path)
    return path
