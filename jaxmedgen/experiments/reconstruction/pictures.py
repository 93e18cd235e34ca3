"""Pictures of volumes built from planes: sections, uncertainty, surfaces."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

from jaxmedgen.data.meshes import surface_mesh
from jaxmedgen.data.planes import FIELD_OF_VIEW
from jaxmedgen.report.pictures import montage
from jaxmedgen.report.surfaces import render_mesh

_SIZE = 160
_EXTENT = 0.45 * FIELD_OF_VIEW


def plane_row(
    planes: Float[np.ndarray, "h w v"], available: Float[np.ndarray, " v"]
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The planes side by side, missing ones black."""
    shown = [
        upright(planes[..., view] * float(available[view] > 0)) for view in range(planes.shape[-1])
    ]
    return montage(shown, columns=len(shown))


def upright(plane: Float[np.ndarray, "h w"], largest: float = 1.0) -> UInt8[np.ndarray, "h2 w2"]:
    """Grey picture of a plane, its second axis upward, 0 black and `largest` white."""
    factor = max(1, _SIZE // plane.shape[0])
    grey = np.uint8(255 * np.clip(plane / largest, 0, 1))
    return np.kron(grey.T[::-1], np.ones((factor, factor), np.uint8))


def surface(
    volume: Float[np.ndarray, "x y z"],
    spacing: Sequence[float | int],
    uncertainty: Float[np.ndarray, "x y z"] | None = None,
    largest: float | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """The rendered surface at 0.5, coloured by an uncertainty; white where there is none.

    Smoothed by half a voxel for the eye: masks have steps.
    """
    volume = ndimage.gaussian_filter(volume.astype(np.float32), 0.5)
    if not volume.min() < 0.5 < volume.max():
        return np.full((_SIZE, _SIZE, 3), 255, np.uint8)
    mesh = surface_mesh(volume, np.diag([*map(float, spacing), 1.0]), colour=uncertainty)
    return render_mesh(mesh, size=_SIZE, extent=_EXTENT, largest=largest)


def uncertainty_sections(
    truth: Float[np.ndarray, "x y z"],
    built: Float[np.ndarray, "x y z"],
    uncertainty: Float[np.ndarray, "x y z"],
    largest: float = 0.5,
) -> UInt8[np.ndarray, "h w 3"]:
    """Middle sagittal sections: truth, prediction, absolute error, uncertainty."""
    middle = truth.shape[0] // 2
    parts = [upright(x[middle]) for x in (truth, built, np.abs(truth - built))]
    hot = matplotlib.colormaps["inferno"](upright(uncertainty[middle], largest))[..., :3]
    return montage([*parts, np.uint8(255 * hot)], columns=4)
