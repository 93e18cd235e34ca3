"""The slices of labelled volumes as 2D samples, and where each comes from."""

import dataclasses

import numpy as np
from jaxtyping import Float

from jaxmedgen.data.sources import DatasetInfo, Record, Source
from jaxmedgen.ops.percentiles import HIGH, LOW


@dataclasses.dataclass(frozen=True)
class ImageSlices:
    """Slices across the thickest axis of every volume, one after the other.

    Slices whose image is constant are padding: they are left out, of the window as well.

    Attributes:
        source: volumes; a record may have a ``spacing`` of its own.
        empty: whether slices without foreground are kept.
        places: subject and slice of every sample.
    """

    source: Source
    empty: bool = True
    places: tuple[tuple[int, int], ...] = dataclasses.field(init=False, repr=False)
    _windows: tuple[np.ndarray, ...] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        places, windows = [], []
        for subject in range(len(self.source)):
            record = self.source[subject]
            image, label = (self.slices_first(record, record[n]) for n in ("image", "label"))
            flat = image.reshape(len(image), -1)
            shown = flat.max(1) > flat.min(1)
            windows.append(_window(image[shown] if shown.any() else image))
            kept = shown & (self.empty | (label > 0).any((1, 2)))
            places += [(subject, int(k)) for k in np.flatnonzero(kept)]
        object.__setattr__(self, "places", tuple(places))
        object.__setattr__(self, "_windows", tuple(windows))

    @property
    def info(self) -> DatasetInfo:
        """Names of subject and slice; spacing within a slice."""
        info = self.source.info
        spacing = np.delete(info.spacing, thick_axis(info.spacing))
        names = tuple(f"{info.case_names[i]}-{k:03d}" for i, k in self.places)
        return dataclasses.replace(info, spacing=tuple(float(s) for s in spacing), case_names=names)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Record:
        """``image``, ``label``, the volume's percentiles ``window [2, c]``.

        Also ``vendor`` and ``spacing`` (mm within the slice), where the volume has its own.
        """
        subject, k = self.places[index]
        record = self.source[subject]
        cut = {name: self.slices_first(record, record[name])[k] for name in ("image", "label")}
        if "vendor" in record:
            cut["vendor"] = record["vendor"]
        if "spacing" in record:
            cut["spacing"] = np.delete(record["spacing"], self.axis_of(record)).astype(np.float32)
        return {**cut, "window": self._windows[subject]}

    def slices_first(self, record: Record, array: np.ndarray) -> np.ndarray:
        """An array of a subject with its slices along the first axis."""
        return np.moveaxis(array, self.axis_of(record), 0)

    def axis_of(self, record: Record) -> int:
        """The thickest axis of a subject."""
        return thick_axis(record.get("spacing", self.source.info.spacing))


def thick_axis(spacing: Float[np.ndarray, "3"] | tuple[float, ...]) -> int:
    """The axis with the largest spacing, the last of equal ones.

    Raises:
        ValueError: not three axes.
    """
    if len(spacing) != 3:
        raise ValueError(f"spacing {tuple(spacing)}: only volumes have slices, give three axes")
    # File headers round: spacings that differ by less than a thousandth are equal.
    values = np.round(np.asarray(spacing, float), 3)
    return int(np.flatnonzero(values == values.max())[-1])


def _window(image: Float[np.ndarray, "*s c"]) -> Float[np.ndarray, "2 c"]:
    """Lower and upper percentile of each channel of a volume."""
    flat = image.reshape(-1, image.shape[-1])
    return np.percentile(flat, (LOW, HIGH), axis=0).astype(np.float32)
