"""Preprocessing of a subject and its way back: crop, normalise, resample, crop or pad.

The order and the normalisations are nnU-Net's (Isensee et al., Nature Methods 2021): intensities
are normalised on the original grid and then resampled. All changes of grid are one
`regrid.GridMap`, which `invert_*` take to bring predictions back onto the original grid.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxmedgen.data import regrid
from jaxmedgen.data.normalization import NORMALIZATIONS, foreground_statistics, normalize
from jaxmedgen.data.regrid import GridMap


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Settings, JSON-serialisable.

    Attributes:
        spacing: target voxel size in mm, one number an axis (RAS+); None takes the data set's
            median, "fit" the finest isotropic size at which every subject's content lies within
            `shape` (`fit` puts both in); "native" leaves every subject as it is.
        shape: target shape, met by cropping and padding around the centre; None keeps what the
            resampling gives. Needed for training on whole volumes.
        crop_to_nonzero: first crops to the box of voxels that are not 0 in any channel (of the
            label map where there is no image).
        normalization: one name for all channels or one a channel: "zscore" (mean and deviation of
            non-zero voxels), "ct" (clip to, then centre and scale by the data set's foreground
            statistics), "minmax" (to [0, 1]), "percentile" (0.5 and 99.5 % to [0, 1], clipped),
            "none".
        ct_statistics: for "ct": (low, high, mean, deviation) a channel, in image units; `fit` puts
            them in.
        image_order: interpolation order of images: 1 or 3.
        label_interpolation: "linear" (class indicators, largest wins) or "nearest".
        anti_alias: smooths images before voxels get larger.
    """

    spacing: tuple[float, ...] | str | None = None
    shape: tuple[int, ...] | None = None
    crop_to_nonzero: bool = False
    normalization: str | tuple[str, ...] = "zscore"
    ct_statistics: tuple[tuple[float, float, float, float], ...] | None = None
    image_order: int = 3
    label_interpolation: str = "linear"
    anti_alias: bool = True

    def __post_init__(self) -> None:
        names = (self.normalization,) if isinstance(self.normalization, str) else self.normalization
        for name in names:
            if name not in NORMALIZATIONS:
                raise ValueError(f"normalization {name!r} is not one of {NORMALIZATIONS}")
        if isinstance(self.spacing, str) and self.spacing not in ("native", "fit"):
            raise ValueError(f"spacing {self.spacing!r} is not numbers, None, 'native' or 'fit'")
        if self.spacing == "fit" and self.shape is None:
            raise ValueError("spacing 'fit' needs the shape that volumes are to fit in")
        if isinstance(self.spacing, tuple) and not all(s > 0 for s in self.spacing):
            raise ValueError(f"spacing {self.spacing} mm is not positive")
        if self.shape is not None and not all(n > 0 for n in self.shape):
            raise ValueError(f"shape {self.shape} is not positive")
        if self.image_order not in (1, 3):
            raise ValueError(f"image_order {self.image_order} is not 1 or 3")
        if self.label_interpolation not in ("linear", "nearest"):
            raise ValueError(
                f"label_interpolation {self.label_interpolation!r} is not 'linear' or 'nearest'"
            )

    def to_json(self) -> str:
        """The settings as one line of JSON."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Preprocessing":
        """The settings from `to_json`'s text.

        Raises:
            ValueError: an unknown or bad setting.
        """
        settings = json.loads(text)
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(settings) - known):
            raise ValueError(f"unknown preprocessing settings {unknown}; known: {sorted(known)}")
        return cls(**{name: _tuples(value) for name, value in settings.items()})

    def needs_ct_statistics(self) -> bool:
        """Whether `fit` must be given intensities."""
        return "ct" in np.atleast_1d(self.normalization) and self.ct_statistics is None

    def fit(
        self,
        spacings: Sequence[tuple[float, ...]],
        intensities: Sequence[np.ndarray] | None = None,
        shapes: Sequence[tuple[int, ...]] | None = None,
    ) -> "Preprocessing":
        """Puts in what depends on the data set; a no-op when nothing does.

        Args:
            spacings: one a subject, mm.
            intensities: per channel, foreground voxels sampled from all subjects (any shape).
            shapes: voxels that "fit" has to hold, one shape a subject: of the volume, or with
                `crop_to_nonzero` of its content.

        Raises:
            ValueError: no subjects, "ct" without intensities, or "fit" without shapes.
        """
        spacing, statistics = self.spacing, self.ct_statistics
        if spacing is None:
            if not spacings:
                raise ValueError("no subjects to take the median spacing from: set spacing")
            median = np.median(np.asarray(spacings, float), axis=0)
            # Six digits: what single-precision headers hold.
            spacing = tuple(float(f"{s:.6g}") for s in median)
        if spacing == "fit":
            if not shapes:
                raise ValueError("no subjects to fit the spacing to: set spacing")
            extents = np.asarray(shapes, float) * np.asarray(spacings, float)
            size = float((extents / np.asarray(self.shape)).max())
            # Rounded up, so that no subject comes out a voxel too long.
            spacing = (np.ceil(size * 1000) / 1000,) * len(self.shape)
            spacing = tuple(map(float, spacing))
        if self.needs_ct_statistics():
            if not intensities or any(len(x) == 0 for x in intensities):
                raise ValueError(
                    "'ct' normalisation needs foreground intensities: give labels, or set "
                    "ct_statistics=((low, high, mean, deviation),)"
                )
            statistics = tuple(foreground_statistics(x) for x in intensities)
        return dataclasses.replace(self, spacing=spacing, ct_statistics=statistics)

    def grid_map(
        self,
        shape: Sequence[int],
        spacing: Sequence[float],
        nonzero: Sequence[slice] | None = None,
    ) -> GridMap:
        """The map from a subject's grid to the network's.

        Args:
            shape: spatial shape of the subject, RAS+.
            spacing: its voxel size in mm.
            nonzero: the box that `crop_to_nonzero` keeps; None keeps all.

        Raises:
            ValueError: spacing still to be fitted, or a wrong number of axes.
        """
        target = tuple(spacing) if self.spacing == "native" else self.spacing
        if target is None or target == "fit":
            raise ValueError(
                f"the target spacing is still {target!r}: call fit() with the data set first"
            )
        for name, value in (("spacing", target), ("shape", self.shape)):
            if value is not None and len(value) != len(shape):
                raise ValueError(f"{name} {value} does not fit a volume of shape {tuple(shape)}")
        kept = nonzero or [slice(0, n) for n in shape]
        grid = GridMap(
            (1.0,) * len(kept),
            tuple(float(s.start) for s in kept),
            tuple(shape),
            tuple(s.stop - s.start for s in kept),
        )
        grid = grid.then(regrid.respace(grid.new_shape, spacing, target))
        if self.shape is not None:
            grid = grid.then(regrid.crop_or_pad(grid.new_shape, self.shape))
        return grid

    def grid_of(
        self,
        spacing: Sequence[float],
        image: Float[np.ndarray, "*s c"] | None = None,
        label: Int[np.ndarray, "*s"] | None = None,
    ) -> GridMap:
        """The map that `apply` uses for these arrays."""
        box = None
        if self.crop_to_nonzero:
            box = nonzero_box(label[..., None] if image is None else image)
        shape = image.shape[:-1] if image is not None else label.shape
        return self.grid_map(shape, spacing, box)

    def apply(
        self,
        spacing: Sequence[float],
        image: Float[np.ndarray, "*s c"] | None = None,
        label: Int[np.ndarray, "*s"] | None = None,
    ) -> tuple[dict[str, np.ndarray], GridMap]:
        """Brings one subject onto the network's grid.

        Args:
            spacing: voxel size in mm.
            image: RAS+, channels last.
            label: RAS+, on the image's grid.

        Returns:
            `{"image": float32 [*t, c], "label": int32 [*t]}` (those given) and the map for
            `invert_*`. Padding takes each channel's lowest normalised value, and background.

        Raises:
            ValueError: settings do not fit the subject, or a channel is constant.
        """
        grid = self.grid_of(spacing, image, label)
        record = {}
        if image is not None:
            image = self.normalize(image)
            record["image"] = regrid.resample_image(
                image,
                grid,
                order=self.image_order,
                anti_alias=self.anti_alias,
                fill=image.min(axis=tuple(range(image.ndim - 1))),
            )
        if label is not None:
            record["label"] = regrid.resample_label(
                label, grid, interpolation=self.label_interpolation
            )
        return record, grid

    def normalize(self, image: Float[np.ndarray, "*s c"]) -> Float[np.ndarray, "*s c"]:
        """Normalised channels, float32.

        Raises:
            ValueError: as `normalization.normalize`.
        """
        return normalize(image, self.normalization, self.ct_statistics)


def invert_label(label: Int[np.ndarray, "*t"], grid: GridMap) -> Int[np.ndarray, "*s"]:
    """A label map of the network's grid on the original (RAS+) grid; background outside."""
    return regrid.resample_label(label, grid.inverse())


def invert_probabilities(
    probabilities: Float[np.ndarray, "*t k"], grid: GridMap
) -> Float[np.ndarray, "*s k"]:
    """Class probabilities on the original (RAS+) grid, float32; sure background outside."""
    fill = np.eye(1, probabilities.shape[-1], dtype=np.float32)[0]
    return regrid.resample_image(probabilities, grid.inverse(), order=1, fill=fill)


def invert_to_label(
    probabilities: Float[np.ndarray, "*t k"], grid: GridMap
) -> Int[np.ndarray, "*s"]:
    """The most probable class on the original (RAS+) grid, without all classes in memory there."""
    return regrid.label_from_probabilities(probabilities, grid.inverse())


def invert_image(image: Float[np.ndarray, "*t c"], grid: GridMap) -> Float[np.ndarray, "*s c"]:
    """An image (or any float channels) on the original (RAS+) grid; its lowest value outside."""
    lowest = image.min(axis=tuple(range(image.ndim - 1)))
    return regrid.resample_image(image, grid.inverse(), order=1, fill=lowest)


def nonzero_box(image: Shaped[np.ndarray, "*s c"]) -> list[slice] | None:
    """The smallest box around voxels that are not 0 in some channel; None without any."""
    mask = np.any(image != 0, axis=-1)
    box = []
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if hit.size == 0:
            return None
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return box


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        raise ValueError(f"a preprocessing setting cannot be {value!r}")
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
