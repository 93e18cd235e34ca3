"""Pictures of images and labels as RGB arrays, with numpy and scipy alone, and a PNG writer.

Volumes are RAS+ arrays (axis 0 to the right, 1 to the front, 2 upward). Planes are shown in
radiological convention: the patient's right is on the left of the axial and coronal pictures, the
front is up (axial) or left (sagittal). Letters on the bare image say so. 2D images are shown with
axis 0 downward, as any picture.
"""

import pathlib
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.ndimage
from jaxtyping import Float, Int, Real, UInt8

PALETTE = (
    "#E69F00 #56B4E9 #009E73 #F0E442 #CC79A7 #D55E00 #0072B2 "
    "#88CCEE #DDCC77 #AA4499 #44AA99 #CC6677 #999933 #882255 #117733 #6699CC"
).split()
"""Class colours: Okabe & Ito, then Tol's muted scheme; told apart with any colour vision."""

ERROR_COLOURS = ("#D55E00", "#56B4E9", "#F0E442")
"""Colours of missed, added and confused (wrong class) voxels."""

_GLYPHS = {
    "R": "11110 10001 10001 11110 10100 10010 10001",
    "L": "10000 10000 10000 10000 10000 10000 11111",
    "A": "01110 10001 10001 11111 10001 10001 10001",
    "P": "11110 10001 10001 11110 10000 10000 10000",
    "S": "01111 10000 10000 01110 00001 00001 11110",
    "I": "01110 00100 00100 00100 00100 00100 01110",
}
# Per plane: the axis it cuts, and its letters at left, right, top, bottom.
_PLANES = ((2, "RLAP"), (1, "RLSI"), (0, "APSI"))

Rgb = UInt8[np.ndarray, "h w 3"]


def class_colours(count: int) -> tuple[str, ...]:
    """Hex colours of foreground classes 1..count; they repeat after sixteen."""
    return tuple(PALETTE[i % len(PALETTE)] for i in range(count))


def three_planes(
    image: Real[np.ndarray, "*s"],
    label: Int[np.ndarray, "*l"] | None = None,
    prediction: Int[np.ndarray, "*p"] | None = None,
    *,
    spacing: Sequence[float | int] | None = None,
    height: int = 160,
) -> Rgb:
    """Axial, coronal and sagittal planes side by side; image, label, prediction, errors below.

    Labels are drawn in translucent colours on the image. With label and prediction a last row shows
    where they differ, in `ERROR_COLOURS`. The planes are those that cut most of the label (or of
    the prediction, or the middle ones, if there is no label). A 2D image is one plane, and its
    rows stand side by side.

    Args:
        image: ``[*s]``, or ``[*s, c]`` of which the first channel is shown; three axes are a volume
            where neither a label nor the spacing tells.
        label: class indices ``[*s]``.
        prediction: class indices ``[*s]``.
        spacing: voxel size in mm; planes are drawn with square pixels.
        height: height of a plane in pixels, about.

    Raises:
        ValueError: not 2D or 3D, or shapes differ.
    """
    contents = [None, *(x for x in (label, prediction) if x is not None)]
    columns = _planes(image, contents, spacing, height)
    if label is not None and prediction is not None:
        errors = _errors(label, prediction)
        columns.append(_planes(image, [errors], spacing, height, _centre(label, prediction))[0])
    rank = len(columns[0])
    pictures = [plane for column in columns for plane in column]
    return montage(pictures, columns=len(columns) if rank == 1 else rank)


def plane_columns(
    image: Real[np.ndarray, "*s"],
    labels: Sequence[Int[np.ndarray, "*l"] | None],
    *,
    spacing: Sequence[float | int] | None = None,
    height: int = 160,
) -> list[Rgb]:
    """The same planes of one image under several labels, each a column: axial, coronal, sagittal.

    None stands for the bare image. The first label chooses the planes; otherwise as `three_planes`.
    """
    return [montage(column, columns=1) for column in _planes(image, labels, spacing, height)]


def montage(
    images: Sequence[Real[np.ndarray, "..."]],
    *,
    columns: int | None = None,
    gap: int = 4,
    background: int = 255,
) -> Rgb:
    """Pictures of any sizes in a grid, centred in their cells.

    Args:
        images: uint8 RGB ``[h, w, 3]`` or grey ``[h, w]``; grey pictures of other types are
            stretched to their own range.
        columns: by default as square as possible.
        gap: pixels between cells.
        background: grey level of gaps and margins.

    Raises:
        ValueError: no picture, or an array that is none.
    """
    if not images:
        raise ValueError("no pictures to put into a montage")
    pictures = [_rgb(image) for image in images]
    columns = columns or int(np.ceil(np.sqrt(len(pictures))))
    rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    heights = [max(p.shape[0] for p in row) for row in rows]
    widths = [max(row[j].shape[1] for row in rows if j < len(row)) for j in range(len(rows[0]))]
    shape = (sum(heights) + gap * (len(heights) - 1), sum(widths) + gap * (len(widths) - 1), 3)
    canvas = np.full(shape, background, np.uint8)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            h, w, _ = picture.shape
            top = sum(heights[:i]) + gap * i + (heights[i] - h) // 2
            left = sum(widths[:j]) + gap * j + (widths[j] - w) // 2
            canvas[top : top + h, left : left + w] = picture
    return canvas


def save_png(path: pathlib.Path | str, array: Real[np.ndarray, "..."]) -> pathlib.Path:
    """Writes a picture, as `montage` takes it, as PNG (making its folder); returns the path."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_bytes(array))
    return path


def png_bytes(array: Real[np.ndarray, "..."]) -> bytes:
    """A picture, as `montage` takes it, as the bytes of a PNG file (8 bit RGB)."""
    picture = _rgb(array)
    h, w, _ = picture.shape
    # Filter 0 (none) before every row.
    lines = np.concatenate([np.zeros((h, 1), np.uint8), picture.reshape(h, 3 * w)], axis=1)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def _rgb(image: Real[np.ndarray, "..."]) -> Rgb:
    if image.ndim == 2:
        if image.dtype != np.uint8:
            low, high = float(image.min()), float(image.max())
            image = np.round((image - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
        return np.repeat(image[..., None], 3, axis=-1)
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"a picture is uint8 [h, w, 3] or [h, w], got {image.dtype} {list(image.shape)}"
        )
    return image


def _window(image: Real[np.ndarray, "*s"]) -> tuple[float, float]:
    """Grey window: the central 99 % of the values."""
    finite = image[np.isfinite(image)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(finite, (0.5, 99.5))
    return float(low), float(high if high > low else finite.max())


def _centre(*labels: np.ndarray | None) -> tuple[int, ...] | None:
    """Index along every axis of the largest cross-section of the first label that has any."""
    for label in labels:
        if label is None or not (label > 0).any():
            continue
        filled = label > 0
        axes = range(filled.ndim)
        return tuple(
            int(filled.sum(axis=tuple(a for a in axes if a != axis)).argmax()) for axis in axes
        )
    return None


def _planes(
    image: Real[np.ndarray, "*s"],
    labels: Sequence[Int[np.ndarray, "*l"] | None],
    spacing: Sequence[float | int] | None,
    height: int,
    centre: tuple[int, ...] | None = None,
) -> list[list[Rgb]]:
    """For every label the painted planes, one in 2D, three in 3D; with `centre`, of errors."""
    colours = PALETTE if centre is None else ERROR_COLOURS
    given = [x for x in labels if x is not None]
    # Without a label or a spacing, [h, w, c] cannot be told from a volume.
    rank = given[0].ndim if given else len(spacing or ()) or image.ndim - (image.ndim == 4)
    image = image[..., 0] if image.ndim == rank + 1 else image
    if rank not in (2, 3) or image.ndim != rank:
        raise ValueError(f"image of shape {image.shape}: pictures need 2D or 3D arrays, no batch")
    for label in given:
        if label.shape != image.shape:
            raise ValueError(f"a label has shape {label.shape}, its image {image.shape}")
    steps = tuple(float(s) for s in (spacing or (1.0,) * rank))
    scale = height / max(n * s for n, s in zip(image.shape, steps))
    centre = centre or _centre(*given) or tuple(n // 2 for n in image.shape)
    low, high = _window(image)
    grey = np.clip(np.nan_to_num((image.astype(np.float32) - low) / max(high - low, 1e-12)), 0, 1)
    columns = []
    for label in labels:
        column = []
        for axis, letters in ((None, ""),) if rank == 2 else _PLANES:
            base = _plane(grey, axis, centre, steps, scale)
            fill = None if label is None else _label_plane(label, axis, centre, steps, scale)
            picture = _paint(base, fill, colours)
            column.append(_letters(picture, letters) if label is None else picture)
        columns.append(column)
    return columns


def _errors(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Index into `ERROR_COLOURS` plus 1 where the prediction is wrong, 0 where it is right."""
    kind = np.where(prediction == 0, 1, np.where(label == 0, 2, 3))
    return np.where(label == prediction, 0, kind)


def _plane(
    volume: np.ndarray,
    axis: int | None,
    centre: tuple[int, ...],
    spacing: tuple[float, ...],
    scale: float,
) -> np.ndarray:
    """One plane as displayed, with square pixels of 1/scale mm."""
    plane, steps = volume, spacing
    if axis is not None:
        plane = np.take(volume, centre[axis], axis).T[::-1, ::-1]
        steps = tuple(s for a, s in enumerate(spacing) if a != axis)[::-1]
    return _resize(plane, tuple(max(1, round(n * s * scale)) for n, s in zip(plane.shape, steps)))


def _label_plane(classes: np.ndarray, *where: Any) -> np.ndarray:
    """`_plane` of class indices, class by class: smooth outlines instead of coarse stairs."""
    values = np.unique(classes)
    shares = [_plane((classes == value).astype(np.float32), *where) for value in values]
    return values[np.argmax(shares, axis=0)]


def _resize(plane: Float[np.ndarray, "h w"], shape: tuple[int, ...]) -> np.ndarray:
    """Linear interpolation between pixel centres."""
    axes = [(np.arange(n) + 0.5) * (m / n) - 0.5 for n, m in zip(shape, plane.shape)]
    grid = np.meshgrid(*axes, indexing="ij")
    return scipy.ndimage.map_coordinates(plane, grid, order=1, mode="nearest")


def _paint(grey: np.ndarray, fill: np.ndarray | None, colours: Sequence[str]) -> Rgb:
    errors = colours is ERROR_COLOURS
    # Errors are few and small: strong colours on a dimmed image.
    opacity = 0.85 if errors else 0.45
    picture = np.repeat(grey[..., None] * (0.6 if errors else 1.0), 3, axis=-1)
    for k in () if fill is None else np.unique(fill[fill > 0]):
        colour = np.array(_hex(colours[(int(k) - 1) % len(colours)]))
        inside = fill == k
        edge = inside & ~scipy.ndimage.binary_erosion(inside, border_value=1)
        picture[inside] = (1 - opacity) * picture[inside] + opacity * colour
        picture[edge] = colour
    return np.round(picture * 255).astype(np.uint8)


def _hex(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


def _letters(picture: Rgb, letters: str) -> Rgb:
    """Draws direction letters at the left, right, top and bottom edge, if they fit."""
    h, w, _ = picture.shape
    if not letters or min(h, w) < 40:
        return picture
    size = 2 if min(h, w) >= 100 else 1
    high, wide = 7 * size, 5 * size
    middle, centre = (h - high) // 2, (w - wide) // 2
    places = ((middle, 3), (middle, w - wide - 3), (3, centre), (h - high - 3, centre))
    for letter, (top, left) in zip(letters, places):
        glyph = np.array([[c == "1" for c in row] for row in _GLYPHS[letter].split()])
        glyph = np.pad(glyph.repeat(size, 0).repeat(size, 1), size)
        box = picture[top - size : top + high + size, left - size : left + wide + size]
        box[scipy.ndimage.binary_dilation(glyph, np.ones((3, 3)))] //= 4
        box[glyph] = 235
    return picture
