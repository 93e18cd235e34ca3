"""The atlas that every subject is bent from: partial-volume maps of all structures.

`atlas` puts the template's tissue maps, the derived brain structures (`anatomy.py`) and the
made-up head (`head.py`) on one grid, twice as fine as the subjects' voxels so that sampling it
does not blur them once more.
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from jaxmedgen.data.phantoms import head as head_module
from jaxmedgen.data.phantoms.anatomy import HEAD_CENTRE, REGION_GRID, regions
from jaxmedgen.data.phantoms.template import Grid, regrid, smooth, template

BRAIN = (
    "csf",
    "ventricle",
    "cortex",
    "white",
    "deep",
    "cerebellar_grey",
    "cerebellar_white",
    "stem",
)
"""Structures inside the skull, in the order of the atlas's channels."""

STRUCTURES = (*BRAIN, *head_module.TISSUES)
"""All structures; what they leave of a voxel is air."""

CLASSES = {
    "tissue": {
        "csf": ("csf", "ventricle"),
        "grey_matter": ("cortex", "deep", "cerebellar_grey"),
        "white_matter": ("white", "cerebellar_white", "stem"),
    },
    "anatomy": {
        "csf": ("csf",),
        "ventricles": ("ventricle",),
        "cortex": ("cortex",),
        "white_matter": ("white",),
        "deep_grey_matter": ("deep",),
        "cerebellum": ("cerebellar_grey", "cerebellar_white"),
        "brain_stem": ("stem",),
    },
}
"""Label schemes: class -> structures it unites."""

TEMPLATE_T1 = {"csf": 0.28, "grey": 0.65, "white": 0.875}
"""Intensity of pure tissue in the T1 template (medians where a tissue's map is above 0.9)."""


@dataclasses.dataclass(frozen=True)
class Atlas:
    """Maps to bend.

    Attributes:
        grid: where the maps live.
        maps: float32 ``[x, y, z, len(BRAIN or STRUCTURES) + 2]``; one partial volume a structure,
            then the T1 template minus what its tissues predict (texture), then the distance from
            the ventricles in mm (up to 30).
        structures: names of the partial-volume channels.
        occupied: false where a sample between voxels can only be air.
    """

    grid: Grid
    maps: Float[np.ndarray, "x y z c"]
    structures: tuple[str, ...]
    occupied: Bool[np.ndarray, "x y z"]


def subject_grid(shape: tuple[int, ...], skull: bool) -> Grid:
    """The box of a subject of `shape`: a cube of 216 mm for the head, 192 mm for the brain."""
    if len(shape) != 3 or min(shape) < 8:
        raise ValueError(f"shape {shape}: give three axes of at least 8 voxels")
    fov = 216.0 if skull else 192.0
    x, y, z = shape
    return Grid((x, y, z), (fov,) * 3, HEAD_CENTRE)


def _fine(grid: Grid) -> Grid:
    """Half the voxel size, but not below 1.5 mm unless the voxels themselves are."""
    steps = (max(s / 2, min(s, 1.5)) for s in grid.spacing)
    x, y, z = (max(1, round(f / s)) for f, s in zip(grid.fov, steps))
    return Grid((x, y, z), grid.fov, grid.centre)


@functools.lru_cache(maxsize=4)
def atlas(grid: Grid, skull: bool) -> Atlas:
    """The maps for subjects on `grid`, with or without the head round the brain.

    Takes two to three seconds the first time; 126 MB for 64^3 subjects, 84 MB without skull.
    """
    fine = _fine(grid)
    fwhm = 0.7 * float(np.mean(grid.spacing))
    maps, affine = template()
    t1, grey, white = (regrid(maps[..., i], affine, fine, fwhm) for i in range(3))
    blur = float(np.sqrt(max(fwhm**2 - REGION_GRID.spacing[0] ** 2, 0)))

    def place(mask: Float[np.ndarray, "x y z"]) -> Float[np.ndarray, "i j k"]:
        mask = smooth(mask, (blur,) * 3, REGION_GRID.spacing)
        return regrid(mask, REGION_GRID.affine, fine, 0.0)

    region = {name: place(mask) for name, mask in regions().items()}
    shell = {name: place(mask) for name, mask in head_module.head().items()}
    cavity = np.maximum(shell["cavity"], np.clip(grey + white, 0, 1))
    fluid = np.clip(cavity - grey - white, 0, 1)
    hind = np.clip(region["cerebellum"] + region["stem"], 0, 1)
    brain = grey + white
    stem = brain * region["stem"] / np.maximum(region["cerebellum"] + region["stem"], 1)
    cerebellum = hind * brain - np.minimum(stem, hind * brain)
    share = grey / np.maximum(brain, 1e-3)
    deep = (1 - hind) * region["deep"] * np.clip(1.35 * grey, 0, brain)
    cortex = np.clip((1 - hind) * grey - deep, 0, 1)
    volumes = {
        "csf": fluid * (1 - region["ventricle"]),
        "ventricle": fluid * region["ventricle"],
        "cortex": cortex,
        "white": np.clip((1 - hind) * brain - deep - cortex, 0, 1),
        "deep": deep,
        "cerebellar_grey": cerebellum * share,
        "cerebellar_white": cerebellum * (1 - share),
        "stem": np.minimum(stem, hind * brain),
    }
    predicted = sum(
        TEMPLATE_T1[tissue] * volume
        for tissue, volume in (("csf", fluid), ("grey", grey), ("white", white))
    )
    # At the rim the template was cut off: no texture there.
    texture = np.where(region["hull"] > 0.6, t1 - predicted, 0) * np.clip(brain, 0, 1)
    texture = np.clip(texture, -0.15, 0.15)
    structures = BRAIN
    if skull:
        volumes |= {name: shell[name] * (1 - cavity) for name in head_module.TISSUES}
        structures = STRUCTURES
    ventricle = volumes["ventricle"] > 0.4
    away = ndimage.distance_transform_edt(~ventricle, sampling=fine.spacing)
    channels = [volumes[name] for name in structures] + [texture, np.minimum(away, 30)]
    stacked = np.stack(channels, axis=-1).astype(np.float32)
    total = stacked[..., : len(structures)].sum(-1, keepdims=True)
    stacked[..., : len(structures)] /= np.maximum(total, 1)
    occupied = ndimage.binary_dilation(total[..., 0] > 1e-3, np.ones((3, 3, 3)))
    return Atlas(fine, stacked, structures, occupied)
