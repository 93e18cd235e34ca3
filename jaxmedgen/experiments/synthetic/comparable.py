"""What makes sets of images comparable: one grid, one size, one scale of intensities."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from jaxmedgen.data.checks import check_files
from jaxmedgen.data.folders import FolderSource
from jaxmedgen.data.layouts import discover
from jaxmedgen.data.preprocess import Preprocessing
from jaxmedgen.data.sources import Source

_THICK = 2.0
"""Voxels longer than this many times their shortest side lie in slices."""
_SAME_VOXELS = 0.05
"""Relative difference up to which voxels count as equal."""
_STANDARDIZED = (-3.0, 3.0)
"""Window of images of mean 0 and deviation 1."""
_IN_COMMON = 0.5
"""Least part of the joint range of intensities that two sets must both fill."""


class FileValues:
    """A folder whose labels have the values of its files again, not numbers of classes.

    Without a description classes are numbered by the values that occur, so that one number may be
    another structure in another folder.

    Attributes:
        info: of the folder.
        preprocessing: fitted to it.
    """

    def __init__(self, source: FolderSource) -> None:
        self.info, self.preprocessing = source.info, source.preprocessing
        self._source, self._values = source, np.asarray(source.label_values, np.int32)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        record = self._source[index]
        return {**record, "label": self._values[record["label"]]}


def read_folder(
    folder: str, shape: Sequence[int] = (), like: FileValues | None = None
) -> FileValues:
    """Labelled images of a folder with their own intensities, on one grid.

    Args:
        folder: any layout that training reads.
        shape: size that all images are brought to (`fitted_spacing`, then cropped or padded around
            the centre); none keeps their own, which must be equal.
        like: the folder whose grid was fitted before: with a shape, images of this one are brought
            onto the same voxels. Two fits would show the sets at different magnifications.

    Raises:
        DataError: files that cannot be used.
        ValueError: a shape of another number of axes than the images.
    """
    spacing = "native"
    if shape:
        spacing = fitted_spacing(folder, shape) if like is None else like.preprocessing.spacing
    prepared = Preprocessing(
        spacing=spacing,
        shape=tuple(shape) or None,
        crop_to_nonzero=False,
        normalization="none",
    )
    return FileValues(FolderSource(folder, prepared))


def fitted_spacing(folder: str, shape: Sequence[int]) -> tuple[float, ...] | None:
    """The voxel size in mm at which every image of a folder fits into a shape.

    One size for all axes, but thick slices keep their distance: resampled to isotropic voxels they
    would be interpolated, or few of them be left.

    Args:
        folder: any layout that training reads.
        shape: voxels an axis.

    Returns:
        mm an axis; None where files are broken, which reading them as a source will tell.

    Raises:
        ValueError: a shape of another number of axes than the images.
    """
    problems, facts = check_files(discover(folder))
    if problems:
        return None
    spacings = np.asarray([f.spacing for f in facts.values()], float)
    if spacings.shape[-1] != len(shape):
        raise ValueError(
            f"--shape {','.join(map(str, shape))}: images of {folder} have {spacings.shape[-1]} "
            "axes; give one number an axis"
        )
    median = np.median(spacings, axis=0)
    thin = median <= _THICK * median.min()
    extents = np.asarray([f.shape for f in facts.values()], float) * spacings
    size = float((extents / np.asarray(shape))[:, thin].max())
    size = np.ceil(size * 1000) / 1000  # up, so that no image comes out a voxel too long
    return tuple(float(f"{s:.6g}") for s in np.where(thin, size, median))


def check_sizes(sets: Mapping[str, Float[np.ndarray, "n *s c"]]) -> None:
    """Checks that all sets have images of one size.

    Raises:
        ValueError: they have not.
    """
    shapes = {name: images.shape[1:] for name, images in sets.items()}
    if len(set(shapes.values())) > 1:
        found = "; ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"images of different sizes ({found}): give --shape, one for all")


def check_scales(sets: Mapping[str, Float[np.ndarray, "n *s c"]]) -> None:
    """Checks that sets have one scale of intensities.

    Images of [-1, 1] beside scans in their own units are far apart in any features, whatever they
    show. Ranges are the 1st to 99th percentile of a whole set, channel by channel; two of them must
    have half of their joint range in common.

    Args:
        sets: images by the name that the message has; the first one is the reference.

    Raises:
        ValueError: a set on another scale than the first.
    """
    ranges = {
        name: np.percentile(images.reshape(-1, images.shape[-1]), (1, 99), axis=0).T
        for name, images in sets.items()
    }
    first, *others = ranges
    for name, channel in itertools.product(others, range(len(ranges[first]))):
        one, other = ranges[first][channel], ranges[name][channel]
        joint = max(one[1], other[1]) - min(one[0], other[0])
        common = min(one[1], other[1]) - max(one[0], other[0])
        if common < _IN_COMMON * joint:
            raise ValueError(
                f"the {first} images lie in [{one[0]:.3g}, {one[1]:.3g}] (1 to 99 %), the {name} "
                f"ones in [{other[0]:.3g}, {other[1]:.3g}]: give --standardize, which brings every "
                "image to mean 0 and deviation 1, or bring them to one scale"
            )


def common_window(
    real: Float[np.ndarray, "n *s c"], *, standardized: bool = False
) -> tuple[float, float]:
    """The window of intensities that networks of photographs see all sets through.

    One for all, so that a set that is darker than the real one stays darker.

    Args:
        real: the real images: their 0.5th and 99.5th percentile, over all channels.
        standardized: whether images have mean 0 and deviation 1: -3 and 3.

    Raises:
        ValueError: real images of one intensity.
    """
    if standardized:
        return _STANDARDIZED
    low, high = (float(end) for end in np.percentile(real, (0.5, 99.5)))
    if not high > low:
        raise ValueError(
            f"99 % of the real images' voxels have intensity {low:.3g}: there is nothing that a "
            "network could see"
        )
    return low, high


def voxel_notes(sets: Mapping[str, Source]) -> list[str]:
    """A sentence for every set whose voxels have another size than those of the first."""
    spacings = {name: np.asarray(source.info.spacing, float) for name, source in sets.items()}
    first, *others = spacings
    shown = {name: " x ".join(f"{s:.3g}" for s in sizes) for name, sizes in spacings.items()}
    return [
        f"voxels of the {name} images are {shown[name]} mm, of the {first} ones {shown[first]} mm: "
        "structures have other sizes in voxels; --shape brings all images onto one grid"
        for name in others
        if len(spacings[name]) != len(spacings[first])
        or (np.abs(spacings[name] / spacings[first] - 1) > _SAME_VOXELS).any()
    ]
