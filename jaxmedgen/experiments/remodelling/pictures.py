"""Pictures of latent spaces and of what is decoded from them."""

from collections.abc import Mapping, Sequence

import matplotlib.axes
import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.tri import Triangulation

from jaxmedgen.data.meshes import Mesh
from jaxmedgen.experiments.remodelling.population import Thickening
from jaxmedgen.metrics import ventricle_wall as wall
from jaxmedgen.report.pictures import montage
from jaxmedgen.report.surfaces import colour_bar, render_mesh

Picture = UInt8[np.ndarray, "rows columns 3"]
COLOURS = ("#1f77b4", "#d62728")
_ZOOM = 5


def planes(shape: Float[np.ndarray, "d h w c"]) -> Float[np.ndarray, "a b"]:
    """Short-axis plane at mid height and long-axis plane of every phase, side by side."""
    parts = []
    for c in range(shape.shape[-1]):
        volume = shape[..., c]
        middle = [n // 2 for n in volume.shape]
        # Base up, septum to the left.
        parts += [volume[middle[0]], volume[::-1, middle[1]]]
    return np.concatenate([np.pad(p, 1) for p in parts], 1)


def shape_rows(shapes: Sequence[Float[np.ndarray, "d h w c"]]) -> Picture:
    """`planes` of shapes, one below the other: probabilities as grey levels."""
    rows = [np.kron(planes(np.clip(s, 0, 1)), np.ones((_ZOOM, _ZOOM))) for s in shapes]
    return montage([np.round(255 * row).astype(np.uint8) for row in rows], columns=1)


def thickness_views(
    shapes: Sequence[Float[np.ndarray, "d h w"]], spacing: Sequence[float | int]
) -> Picture:
    """Inner surfaces coloured by wall thickness, seen from the septum; one scale in mm for all."""
    surfaces = [wall.wall_surface(s, spacing) for s in shapes]
    largest = max(float(np.percentile(s.thickness, 99)) for s in surfaces)
    views = [
        render_mesh(
            Mesh(s.points[:, ::-1], s.faces[:, ::-1], s.thickness),
            size=280,
            azimuth=200,
            elevation=10,
            largest=largest,
        )
        for s in surfaces
    ]
    scale = colour_bar(largest, "wall thickness, mm", size=280)
    return montage([*views, scale], columns=len(views) + 1)


def bulls_eyes(maps: Mapping[str, Float[np.ndarray, "levels angles"]]) -> Picture:
    """Thickening in mm over angle and level, apex in the middle and septum to the left.

    Args:
        maps: by title, on the grid of `wall.thickness_map` or a finer one.
    """
    figure = Figure(figsize=(0.8 + 3.3 * len(maps), 3.2), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    most = max(float(np.nanmax(np.abs(values))) for values in maps.values())
    for number, (title, values) in enumerate(maps.items()):
        axes = figure.add_subplot(1, len(maps), number + 1, projection="polar")
        edges = np.linspace(-np.pi, np.pi, values.shape[1] + 1)
        radii = np.linspace(0, 1, values.shape[0] + 1)
        drawn = axes.pcolormesh(edges, radii, values, cmap="RdBu_r", vmin=-most, vmax=most)
        axes.set_theta_zero_location("W")
        axes.set_theta_direction(-1)
        axes.set_xticks(
            np.deg2rad([0, 90, 180, 270]), ["septal", "anterior", "lateral", "inferior"]
        )
        # Centred, the words at the sides would lie over the map.
        for word, side in zip(axes.get_xticklabels(), ("right", "center", "left", "center")):
            word.set_horizontalalignment(side)
            word.set_fontsize(8)
        axes.set_yticks([])
        axes.set_title(f"{title}, mm", fontsize=9)
    figure.colorbar(drawn, ax=figure.axes, shrink=0.7)
    return _drawn(canvas)


def thickening_views(found: Thickening) -> Picture:
    """`bulls_eyes` of the sampled mean shapes, of the phantom, and in AHA segments."""
    levels, angles = (4 * n for n in found.truth.shape)
    angle, level = wall.map_grid(angles, levels)
    segments = found.segments[wall.aha_segments(angle, level) - 1].reshape(levels, angles)
    return bulls_eyes({
        "sampled mean shapes": found.difference,
        "phantom": found.truth,
        "AHA segments": segments,
    })  # fmt: skip


def scatter(
    points: Float[np.ndarray, "n 2"],
    target: Int[np.ndarray, " n"],
    names: Sequence[str],
    path: Float[np.ndarray, "t 2"] | None = None,
    labels: tuple[str, str] = ("", ""),
) -> Picture:
    """Points of two classes in the plane, and a way through them."""
    figure = Figure(figsize=(4.6, 3.8), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _points(axes, points, target, names)
    if path is not None:
        axes.plot(*path.T, color="black", lw=1.2, label="way")
        axes.plot(*path[-1], "k*", ms=9)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.legend(fontsize=8)
    return _drawn(canvas)


def decision_field(
    points: Float[np.ndarray, "n 2"],
    target: Int[np.ndarray, " n"],
    names: Sequence[str],
    grid: Float[np.ndarray, "m 2"],
    probability: Float[np.ndarray, " m"],
    held: tuple[Float[np.ndarray, "k 2"], Int[np.ndarray, " k"]] | None = None,
    path: Float[np.ndarray, "t 2"] | None = None,
) -> Picture:
    """Two-dimensional latent space: probability of the disease, and the subjects.

    Args:
        points: of the training subjects.
        target: their classes.
        names: of the classes.
        grid: where the probability is known.
        probability: of the disease.
        held: points and classes of held-out subjects, drawn as triangles.
        path: a walk.
    """
    figure = Figure(figsize=(4.8, 3.9), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    field = axes.tricontourf(
        Triangulation(*grid.T), probability, levels=np.linspace(0, 1, 11), cmap="coolwarm"
    )
    figure.colorbar(field, label=f"p({names[1]})")
    _points(axes, points, target, names)
    if held is not None:
        _points(axes, *held, [f"{name}, test" for name in names], "^")
    if path is not None:
        axes.plot(*path.T, color="black", lw=1.2, label="walk")
    axes.set_xlabel("z, first dimension")
    axes.set_ylabel("second")
    axes.legend(fontsize=8)
    return _drawn(canvas)


def field_grid(points: Float[np.ndarray, "n 2"], count: int = 40) -> Float[np.ndarray, "m 2"]:
    """A grid around points, with a tenth of their range on every side."""
    low, high = points.min(0), points.max(0)
    axes = [np.linspace(a - (b - a) / 10, b + (b - a) / 10, count) for a, b in zip(low, high)]
    return np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")], -1)


def quantile_grid(points: Float[np.ndarray, "n 2"], count: int = 3) -> Float[np.ndarray, "m 2"]:
    """A traversal: from the 5th to the 95th percentile of either dimension, row by row."""
    axes = [np.quantile(points[:, k], np.linspace(0.05, 0.95, count)) for k in (0, 1)]
    return np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")], -1)


def _points(axes: matplotlib.axes.Axes, points, target, names, marker="o") -> None:
    for kind, name in enumerate(names):
        chosen = points[target == kind]
        style = {"s": 12, "color": COLOURS[kind], "marker": marker, "edgecolor": "white"}
        axes.scatter(*chosen.T, **style, lw=0.3, label=name)


def _drawn(canvas: FigureCanvasAgg) -> Picture:
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
