"""Everything round the brain, which the skull-stripped template lacks: made up, in MNI mm.

The inner table of the skull is a smoothed hull of the brain; CSF, bone (two dark tables, marrow
between them), muscle and fat under the skin follow as shells over it. Below the skull base a face
and a neck of mottled muscle and fat hold eyes, air-filled sinuses, the airway and the spine. None
of it is measured; it gives a network the bright rim, the dark ring and the clutter of a head.
"""

import functools

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from jaxmedgen.data.phantoms.anatomy import REGION_GRID, Ellipsoid, ellipsoid, regions

TISSUES = ("fluid", "bone", "marrow", "muscle", "fat")
"""Extra-cerebral tissues; ``fluid`` fills eyes and spinal canal, the cord counts as marrow."""

FACE: tuple[Ellipsoid, ...] = (
    ((0.0, 34.0, -62.0), (58.0, 52.0, 58.0)),
    ((0.0, 70.0, -58.0), (15.0, 30.0, 26.0)),  # nose
    ((0.0, -22.0, -96.0), (56.0, 58.0, 64.0)),  # neck
)
AIR: tuple[Ellipsoid, ...] = (
    ((9.0, 48.0, -56.0), (6.0, 26.0, 20.0)),  # nasal cavity
    ((28.0, 42.0, -60.0), (13.0, 14.0, 15.0)),  # maxillary sinus
    ((7.0, 20.0, -38.0), (7.0, 9.0, 8.0)),  # sphenoid sinus
    ((9.0, 66.0, -16.0), (10.0, 4.0, 8.0)),  # frontal sinus
    ((0.0, 8.0, -84.0), (10.0, 6.0, 34.0)),  # pharynx
    ((52.0, -36.0, -44.0), (7.0, 9.0, 9.0)),  # mastoid cells
)
EYE: Ellipsoid = ((32.0, 58.0, -36.0), (12.5, 12.5, 12.5))
ORBIT: Ellipsoid = ((29.0, 48.0, -36.0), (17.0, 24.0, 17.0))


def _soft(level: Float[np.ndarray, "x y z"], width: float) -> Float[np.ndarray, "x y z"]:
    """1 where `level` is positive, 0 where negative, a ramp of `width` between."""
    return np.clip(0.5 + level / width, 0, 1)


@functools.cache
def head() -> dict[str, Float[np.ndarray, "x y z"]]:
    """Soft masks in [0, 1] on the region grid: ``cavity`` (inside the skull) and `TISSUES`."""
    grid = REGION_GRID
    step = grid.spacing[0]
    x, y, z = grid.axes()
    hull = ndimage.gaussian_filter(regions()["hull"], 1.5)
    inner = hull > 0.45
    inner |= regions()["hull"] > 0.5
    outside = ndimage.distance_transform_edt(~inner) * step
    inside = ndimage.distance_transform_edt(inner) * step
    distance = ndimage.gaussian_filter(np.where(inner, 1 - inside, outside - 1), 0.7)
    # Fixed noise: thickness of the shells and the mottle of muscle and fat.
    rng = np.random.default_rng(152)
    noise = [ndimage.gaussian_filter(rng.standard_normal(grid.shape), s) for s in (1.3, 6.0)]
    mottle, slow = (n / n.std() for n in noise)
    depth = distance - 0.6 * slow
    gap = 2.0  # CSF between cortex and dura, mm
    base = _soft(-22 - z + 0.25 * y, 12.0) * np.ones(grid.shape)  # 1 below the skull base
    bone_end = gap + 6.5
    skin = gap + 14.5 + 1.5 * slow
    outline = _soft(skin - distance, step)
    below = np.zeros(grid.shape)
    for shape in FACE:
        below = np.maximum(below, _soft((1 - ellipsoid(grid, shape)) * min(shape[1]), 3 * step))
    below *= _soft(-6 - z, 20.0)
    cavity = _soft(gap - distance, step)
    behind = y + 45.0 - 0.12 * (z + 72.0)  # from the axis of cord and spine
    canal = _soft(9 - np.hypot(x, behind), step) * _soft(-66 - z, step)
    cord = _soft(5.5 - np.hypot(x, behind), step) * _soft(-66 - z, step)
    bone = _soft(depth - gap, step) * _soft(bone_end - depth, step)
    marrow = np.exp(-(((depth - gap - 3.4) / 1.3) ** 2)) * (1 - base) * 0.8
    spine = np.hypot(x / 1.2, behind - 4.0)
    bone = np.maximum(bone, 0.8 * _soft(19 - spine, step) * _soft(-72 - z, step))
    whole = np.maximum(outline, below)
    # Fat under the skin: within 5 mm of the head's outline.
    rim = ndimage.distance_transform_edt(whole > 0.5) * step
    fat = _soft(6.5 - rim, step) * _soft(rim - 1.0, step)
    fat = np.maximum(fat, base * _soft(mottle - 0.5, 0.8))
    temporalis = np.exp(
        -(((np.abs(x) - 66) / 14) ** 2 + ((y - 8) / 26) ** 2 + ((z + 14) / 26) ** 2)
    )
    fat *= 1 - 0.7 * temporalis
    air = np.zeros(grid.shape)
    for shape in AIR:
        air = np.maximum(air, _soft((1 - ellipsoid(grid, shape, True)) * min(shape[1]), 2 * step))
    fluid = _soft((1 - ellipsoid(grid, EYE, True)) * EYE[1][0], step)
    orbit = _soft((1 - ellipsoid(grid, ORBIT, True)) * ORBIT[1][0], step)
    # Painter's order: what comes first keeps its share, the next gets what is left.
    left = np.clip(1 - cavity, 0, 1)
    layers = {}
    for name, share in (
        ("air", air),
        ("cord", cord),
        ("fluid", np.maximum(fluid, canal)),
        ("orbit", orbit),
        ("marrow", marrow),
        ("bone", bone),
        ("outside", 1 - whole),
        ("fat", fat),
    ):
        layers[name] = left * share
        left = left - layers[name]
    layers["fat"] = layers["fat"] + layers["orbit"]
    layers["marrow"] = layers["marrow"] + layers["cord"]
    layers["muscle"] = left
    masks = {"cavity": cavity} | {name: layers[name] for name in TISSUES}
    return {name: np.asarray(mask, dtype=np.float32) for name, mask in masks.items()}
