"""The atlas of a trained model of a population: NIfTI files and pictures."""

import pathlib

import jax
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import colormaps

from jaxmedgen.data.grid_affines import upright
from jaxmedgen.data.nifti import write_volume
from jaxmedgen.report.pictures import montage, save_png, three_planes
from jaxmedgen.systems.base import HasAtlas, PlayerVariables

_HEIGHT = 160


def write_atlas(
    system: object,
    variables: PlayerVariables,
    spacing: tuple[float, ...],
    folder: pathlib.Path,
    affine: Float[np.ndarray, "4 4"] | None = None,
) -> None:
    """Writes the atlas of a system that has one: NIfTI files and two pictures.

    ``template``, ``variance``, ``labels`` and the template moved along each mode are volumes.

    ``atlas.png`` shows template, labels and variance; ``modes.png`` has a row for each of the first
    modes, the template at -2, 0 and 2 standard deviations. Of several channels, files are numbered
    as nnU-Net does (``template_0001.nii.gz``), and the pictures show the first; channels made of
    labels are summed up in grey.

    Args:
        system: any; one without an atlas writes nothing.
        variables: of its trained state.
        spacing: voxel size in mm.
        folder: for the files.
        affine: voxel index to mm of the subjects' common grid; None stands the spacing upright.
    """
    if not isinstance(system, HasAtlas):
        return
    atlas = jax.tree.map(np.asarray, jax.jit(system.atlas)(variables))
    affine = upright(spacing) if affine is None else affine
    for name, volume in (("template", atlas.image), ("variance", atlas.variance)):
        _write(folder, name, volume, affine)
    write_volume(folder / "labels.nii.gz", atlas.label.astype(np.uint8), affine)
    for mode, images in enumerate(atlas.modes):
        for image, side in ((images[0], "minus"), (images[-1], "plus")):
            _write(folder, f"mode{mode + 1}_{side}", image, affine)
    variance = _coloured(_grey(atlas.variance), spacing)
    labelled = three_planes(_grey(atlas.image), atlas.label, spacing=spacing, height=_HEIGHT)
    save_png(folder / "atlas.png", montage([labelled, variance], columns=1))
    pictures = [
        three_planes(_grey(image), spacing=spacing, height=_HEIGHT)
        for images in atlas.modes
        for image in images
    ]
    save_png(folder / "modes.png", montage(pictures, columns=atlas.modes.shape[1]))


def _write(folder, name, volume, affine) -> None:
    channels = volume.shape[-1]
    for number in range(channels):
        end = "" if channels == 1 else f"_{number:04d}"
        write_volume(folder / f"{name}{end}.nii.gz", volume[..., number], affine)


def _grey(image: Float[np.ndarray, "*s c"]) -> Float[np.ndarray, "*s"]:
    """One channel as it is; several, as of tissues, as shades of grey."""
    channels = image.shape[-1]
    return image @ (1 - np.arange(channels) / max(channels, 2)).astype(image.dtype)


def _coloured(volume: Float[np.ndarray, "*s"], spacing) -> UInt8[np.ndarray, "h w 3"]:
    """Planes in the colours of magma, 0 to the largest value."""
    grey, frame = (
        three_planes(x, spacing=spacing, height=_HEIGHT)[..., 0] for x in (volume, 0 * volume)
    )
    coloured = (255 * colormaps["magma"](grey)[..., :3]).astype(np.uint8)
    return np.where((frame == 255)[..., None], np.uint8(255), coloured)  # gaps and letters
