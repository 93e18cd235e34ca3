"""Brain structures cut out of the MNI152 tissue maps.

nilearn carries grey matter, white matter and T1 only. The rest is derived, in MNI millimetres:
CSF is what the brain's hull holds besides grey and white matter; ventricles are the CSF connected
to the lateral, third and fourth ventricle away from the surface; cerebellum, brain stem and
cerebrum are separated by a seeded watershed on the T1 (the tentorium is a dark valley); deep grey
matter is the grey matter inside ellipsoids round caudate, putamen, pallidum and thalamus. All
seeds, boxes and ellipsoids were placed by eye on the template, not taken from a labelled atlas.
"""

import functools

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from skimage.segmentation import watershed

from jaxmedgen.data.phantoms.template import Grid, regrid, template

HEAD_CENTRE = (0.0, -17.0, 8.0)
"""Middle of the head's box in MNI mm."""

REGION_GRID = Grid((108, 108, 108), (216.0, 216.0, 216.0), HEAD_CENTRE)
"""Where regions are derived: 2 mm, whatever the resolution of the phantom."""

Ellipsoid = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Centre and half-axes in mm."""

# Right side; each is mirrored to the left.
DEEP_GREY: tuple[Ellipsoid, ...] = (
    ((11.0, -19.0, 7.0), (11.0, 16.0, 10.0)),  # thalamus
    ((11.0, 13.0, 8.0), (8.0, 12.0, 13.0)),  # head of caudate
    ((16.0, -2.0, 20.0), (6.0, 16.0, 7.0)),  # body of caudate
    ((25.0, 4.0, 1.0), (8.0, 19.0, 13.0)),  # putamen
    ((19.0, -6.0, -1.0), (7.0, 9.0, 7.0)),  # pallidum
    ((9.0, 12.0, -7.0), (7.0, 8.0, 6.0)),  # accumbens
)


def ellipsoid(grid: Grid, shape: Ellipsoid, mirror: bool = False) -> Float[np.ndarray, "x y z"]:
    """Normalised radius from the centre: below 1 inside; `mirror` adds the other side."""
    (cx, cy, cz), (ax, ay, az) = shape
    x, y, z = grid.axes()
    x = np.abs(x) if mirror else x
    return np.sqrt(((x - cx) / ax) ** 2 + ((y - cy) / ay) ** 2 + ((z - cz) / az) ** 2)


def _seeds(grid: Grid, shapes: tuple[Ellipsoid, ...], mirror: bool) -> Bool[np.ndarray, "x y z"]:
    inside = np.zeros(grid.shape, bool)
    for shape in shapes:
        inside |= ellipsoid(grid, shape, mirror) < 1
    return inside


def _split(
    grid: Grid, t1: Float[np.ndarray, "x y z"], hull: Bool[np.ndarray, "x y z"]
) -> tuple[Bool[np.ndarray, "x y z"], Bool[np.ndarray, "x y z"]]:
    """Masks of cerebellum and brain stem."""
    x, y, z = grid.axes()
    cerebrum = hull & ((z > 8) | ((y > -4) & (z > -60)) | (y < -92) & (z > -18))
    cerebrum |= _seeds(
        grid,
        (((46.0, -30.0, -14.0), (14.0, 22.0, 8.0)), ((26.0, -78.0, -2.0), (18.0, 14.0, 6.0))),
        True,
    )
    cerebrum |= _seeds(grid, (((28.0, -24.0, -12.0), (9.0, 16.0, 5.0)),), True)
    cerebellum = _seeds(
        grid,
        (
            ((24.0, -64.0, -42.0), (20.0, 20.0, 14.0)),
            ((0.0, -66.0, -26.0), (6.0, 12.0, 12.0)),
            ((40.0, -62.0, -36.0), (8.0, 14.0, 7.0)),
        ),
        True,
    )
    # The stem is a tube along midbrain, pons and medulla; no valley ends it at the peduncles.
    stem = hull & (
        (ellipsoid(grid, ((0.0, -24.0, -12.0), (15.0, 13.0, 9.0))) < 1)
        | (ellipsoid(grid, ((0.0, -27.0, -31.0), (17.0, 14.0, 15.0))) < 1)
        | ((np.hypot(x / 11.0, (y + 32.0 - 0.45 * (z + 36.0)) / 11.0) < 1) & (z < -36))
    )
    markers = np.zeros(grid.shape, np.int32)
    markers[cerebrum & hull] = 1
    markers[cerebellum & hull] = 2
    markers[stem] = 3
    parts = watershed(-ndimage.gaussian_filter(t1, 0.7), markers, mask=hull)
    # Peduncles leak: what the stem gained beyond its tube by more than 3 mm is cerebellum.
    near = ndimage.binary_dilation(stem, iterations=2)
    gained = (parts == 3) & ~near
    return (parts == 2) | (gained & (z < -14) & (y < -20)), (parts == 3) & near


@functools.cache
def regions() -> dict[str, Float[np.ndarray, "x y z"]]:
    """Soft masks in [0, 1] on `REGION_GRID`, each the region its structure may lie in.

    Keys: ``hull`` (the brain, sulci and ventricles filled), ``ventricle``, ``deep``,
    ``cerebellum``, ``stem``.
    """
    grid = REGION_GRID
    maps, affine = template()
    t1, grey, white = (regrid(maps[..., i], affine, grid, grid.spacing[0]) for i in range(3))
    brain = t1 > 0.2
    padded = np.pad(brain, 8)
    closed = ndimage.distance_transform_edt(ndimage.distance_transform_edt(~padded) <= 3.5) > 3.5
    hull = ndimage.binary_fill_holes(closed)[8:-8, 8:-8, 8:-8] | brain
    csf = hull & (grey + white < 0.5)
    depth = ndimage.distance_transform_edt(hull) * grid.spacing[0]
    x, y, z = grid.axes()
    lateral = (np.abs(x) < 42) & (y > -62) & (y < 44) & (z > -24) & (z < 32) & (depth > 14)
    # The cisterns round the midbrain and below the splenium are open to the surface.
    cistern = ((np.abs(x) < 24) & (z < -5)) | ((np.abs(x) < 14) & (y < -25) & (z < 20))
    third = (np.abs(x) < 6) & (y > -28) & (y < 6) & (z > -12) & (z < 12)
    fourth = (np.abs(x) < 14) & (y > -58) & (y < -34) & (z > -46) & (z < -16)
    inside = csf & (
        (lateral & ~cistern & ~((np.abs(x) > 26) & (y > -14)) & ~((np.abs(x) < 5) & (z > 18)))
        | third
        | fourth
    )
    parts, _ = ndimage.label(inside)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    ventricle = np.isin(parts, np.flatnonzero(sizes >= 30))
    cerebellum, stem = _split(grid, t1, hull)
    deep = np.zeros(grid.shape, np.float32)
    for shape in DEEP_GREY:
        edge = (1 - ellipsoid(grid, shape, mirror=True)) * min(shape[1]) / 3.0
        deep = np.maximum(deep, np.clip(0.5 + edge, 0, 1))

    def soften(mask: Bool[np.ndarray, "x y z"], sigma: float) -> Float[np.ndarray, "x y z"]:
        return ndimage.gaussian_filter(mask.astype(np.float32), sigma)

    return {
        "hull": soften(hull, 0.6),
        "ventricle": np.clip(2 * soften(ndimage.binary_dilation(ventricle), 0.5), 0, 1),
        "deep": deep.astype(np.float32),
        "cerebellum": soften(cerebellum, 0.5),
        "stem": soften(stem, 0.5),
    }
