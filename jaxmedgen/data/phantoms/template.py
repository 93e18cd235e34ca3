"""The MNI152 maps that the nilearn package carries, and sampling them on any grid.

The T1 average and the grey and white matter probability maps (MNI ICBM152 2009a symmetric, 1 mm,
skull-stripped, RAS+) are files inside nilearn's wheel. They are read with nibabel from where the
package lies: nothing is downloaded, and nilearn itself, slow to import, is not imported.

Source: V. Fonov et al., "Unbiased average age-appropriate atlases for pediatric studies",
NeuroImage 54 (2011); nilearn `datasets.load_mni152_template` and its siblings.
"""

import dataclasses
import importlib.util
import pathlib

import nibabel as nib
import numpy as np
from jaxtyping import Float
from scipy import ndimage


@dataclasses.dataclass(frozen=True)
class Grid:
    """A box of `shape` voxels over `fov` mm around `centre` mm; axes right, anterior, superior.

    Attributes:
        shape: voxels an axis.
        fov: extent of the box in mm, voxel edge to voxel edge.
        centre: middle of the box in MNI mm.
    """

    shape: tuple[int, int, int]
    fov: tuple[float, float, float]
    centre: tuple[float, float, float]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm."""
        x, y, z = (f / n for f, n in zip(self.fov, self.shape))
        return x, y, z

    @property
    def affine(self) -> Float[np.ndarray, "4 4"]:
        """Voxel index -> mm (RAS+), the affine a NIfTI file would carry."""
        matrix = np.diag([*self.spacing, 1.0])
        matrix[:3, 3] = [c - f / 2 + s / 2 for c, f, s in zip(self.centre, self.fov, self.spacing)]
        return matrix

    def axis(self, k: int) -> Float[np.ndarray, " n"]:
        """Coordinates in mm of the voxel centres along axis `k`."""
        return self.affine[k, 3] + self.spacing[k] * np.arange(self.shape[k])

    def axes(self) -> tuple[Float[np.ndarray, "_ 1 1"], Float[np.ndarray, "1 _ 1"], np.ndarray]:
        """The three coordinates in mm, shaped to broadcast over the grid (float32)."""
        x, y, z = (self.axis(k).astype(np.float32) for k in range(3))
        return x[:, None, None], y[None, :, None], z[None, None, :]


def _folder() -> pathlib.Path:
    spec = importlib.util.find_spec("nilearn")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("nilearn is not installed: pip install nilearn")
    return pathlib.Path(spec.origin).parent / "datasets" / "data"


def template() -> tuple[Float[np.ndarray, "x y z 3"], Float[np.ndarray, "4 4"]]:
    """T1, grey matter and white matter in [0, 1] at 1 mm, and their affine (0.2 s, 104 MB).

    Raises:
        FileNotFoundError: this version of nilearn carries no such map.
    """
    maps = []
    for name in ("t1", "gm", "wm"):
        found = sorted(_folder().glob(f"mni_icbm152_{name}_*.nii.gz"))
        if not found:
            raise FileNotFoundError(
                f"no mni_icbm152_{name}_*.nii.gz in {_folder()}: install nilearn 0.11 or later"
            )
        image = nib.as_closest_canonical(nib.load(found[0]))
        array = np.asarray(image.dataobj, dtype=np.float32)
        maps.append(array / array.max())
    return np.stack(maps, axis=-1), np.asarray(image.affine, dtype=np.float64)


def smooth(
    volume: Float[np.ndarray, "x y z"], fwhm: tuple[float, ...], spacing: tuple[float, ...]
) -> Float[np.ndarray, "x y z"]:
    """Gaussian of `fwhm` mm an axis (0 leaves the axis alone); the border is repeated."""
    for axis, (width, step) in enumerate(zip(fwhm, spacing)):
        sigma = width / 2.3548 / step
        if sigma > 0.05:
            volume = ndimage.gaussian_filter1d(volume, sigma, axis, mode="nearest", truncate=3.0)
    return volume


def regrid(
    volume: Float[np.ndarray, "x y z"], affine: Float[np.ndarray, "4 4"], grid: Grid, fwhm: float
) -> Float[np.ndarray, "i j k"]:
    """`volume` (axis-aligned `affine`) on `grid`, blurred to `fwhm` mm before; 0 outside."""
    spacing = tuple(float(s) for s in np.diag(affine)[:3])
    blur = np.sqrt(max(fwhm**2 - max(spacing) ** 2, 0.0))
    volume = smooth(volume, (float(blur),) * 3, spacing)
    offset = (grid.affine[:3, 3] - affine[:3, 3]) / spacing
    return ndimage.affine_transform(
        volume, np.asarray(grid.spacing) / spacing, offset, grid.shape, order=1
    )
