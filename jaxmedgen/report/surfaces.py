"""Triangle meshes as shaded pictures, by matplotlib."""

import matplotlib
import matplotlib.cm
import matplotlib.colors
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from jaxmedgen.data.meshes import Mesh

BONE = "#d9cdb4"
_HUES = np.linspace(0.15, 1.0, 256)
"""Part of the colour map that is used: its black end would look like shade."""
_LIGHT = np.array([0.4, 0.6, 0.7]) / np.linalg.norm([0.4, 0.6, 0.7])


def render_mesh(
    mesh: Mesh,
    *,
    size: int = 200,
    azimuth: float | int = 55.0,
    elevation: float | int = 15.0,
    extent: float | int | None = None,
    largest: float | int | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """A mesh seen obliquely from the front, lit from above.

    Args:
        mesh: with values: coloured by them from 0 to `largest`; without: bone.
        size: pixels an axis.
        azimuth: of the camera in degrees, from the right to the front.
        elevation: of the camera in degrees.
        extent: half-width in mm of what is shown about the mesh's middle; by default all of it. One
            number for several meshes keeps their sizes comparable.
        largest: value of the hottest colour, by default the mesh's largest.
    """
    triangles = mesh.vertices[mesh.faces]
    middle = (mesh.vertices.min(0) + mesh.vertices.max(0)) / 2
    half = extent or float((mesh.vertices.max(0) - mesh.vertices.min(0)).max() / 2)
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    light = 0.35 + 0.65 * np.clip(normals @ _LIGHT, 0, 1)
    colours = _colours(mesh, largest) * light[:, None]
    figure = Figure(figsize=(2, 2), dpi=size / 2)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), projection="3d")
    axes.add_collection3d(Poly3DCollection(triangles - middle, facecolors=colours, linewidths=0))
    for name in ("x", "y", "z"):
        getattr(axes, f"set_{name}lim")(-half, half)
    axes.set_box_aspect((1, 1, 1), zoom=1.5)
    axes.view_init(elev=elevation, azim=azimuth)
    axes.set_axis_off()
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def colour_bar(largest: float | int, label: str, *, size: int = 200) -> UInt8[np.ndarray, "h w 3"]:
    """The scale of `render_mesh`'s colours from 0 to `largest`, before the light.

    Args:
        largest: value of the hottest colour.
        label: what is measured, with its unit.
        size: pixels high.
    """
    figure = Figure(figsize=(0.7, 2), dpi=size / 2)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.1, 0.06, 0.22, 0.88))
    hues = matplotlib.colors.ListedColormap(matplotlib.colormaps["inferno"](_HUES))
    norm = matplotlib.colors.Normalize(0, largest)
    bar = figure.colorbar(matplotlib.cm.ScalarMappable(norm, hues), cax=axes)
    bar.set_label(label, fontsize=6)
    bar.ax.tick_params(labelsize=6)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _colours(mesh: Mesh, largest: float | int | None) -> Float[np.ndarray, "f 3"]:
    if mesh.values is None:
        return np.tile(matplotlib.colors.to_rgb(BONE), (len(mesh.faces), 1))
    top = largest or float(mesh.values.max()) or 1.0
    values = np.clip(mesh.values[mesh.faces].mean(1) / top, 0, 1)
    low, high = _HUES[0], _HUES[-1]
    return matplotlib.colormaps["inferno"](low + (high - low) * values)[:, :3]
