"""Writes labelled scans as a data set of nnU-Net v2.

``imagesTr/NAME_0000.nii.gz`` (a file a channel), ``labelsTr/NAME.nii.gz`` and ``dataset.json``;
`data.layouts` reads the same. The folder must be named ``DatasetXXX_Name`` for nnU-Net to find it.
Format: https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md.
"""

import json
import pathlib

import numpy as np
from jaxtyping import Float, Int

from jaxmedgen.data.atomic import write_atomically
from jaxmedgen.data.nifti import write_volume
from jaxmedgen.data.sources import DatasetInfo

ENDING = ".nii.gz"


def write_case(
    folder: pathlib.Path,
    name: str,
    image: Float[np.ndarray, "*s c"],
    label: Int[np.ndarray, "*s"],
    affine: Float[np.ndarray, "4 4"],
) -> None:
    """One labelled scan; a 2D one becomes a volume of a single slice.

    Args:
        folder: of the data set.
        name: of the case.
        image: 2D or 3D.
        label: its label map.
        affine: voxel index to mm, RAS+; of a 2D scan the third column is its slice axis.
    """
    if label.ndim == 2:
        image, label = image[:, :, None], label[:, :, None]
    for k in range(image.shape[-1]):
        path = folder / "imagesTr" / f"{name}_{k:04d}{ENDING}"
        write_volume(path, np.asarray(image[..., k], np.float32), affine)
    write_volume(folder / "labelsTr" / f"{name}{ENDING}", label.astype(np.uint8), affine)


def write_description(folder: pathlib.Path, info: DatasetInfo, count: int) -> None:
    """``dataset.json``.

    Args:
        folder: of the data set.
        info: names of channels and classes.
        count: number of cases.
    """
    channels = info.channel_names or ("image",)
    content = {
        "channel_names": {str(k): name for k, name in enumerate(channels)},
        "labels": {name: value for value, name in enumerate(info.class_names)},
        "numTraining": count,
        "file_ending": ENDING,
    }
    text = json.dumps(content, indent=2) + "\n"
    write_atomically(folder / "dataset.json", lambda file: file.write(text.encode()))
