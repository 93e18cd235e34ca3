"""Subjects that are not read from scans' files, preprocessed like those of a folder."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxmedgen.data.checks import foreground_sample
from jaxmedgen.data.preprocess import Preprocessing, nonzero_box
from jaxmedgen.data.sources import DatasetInfo, Record, Source, Wrapped, spacing_of
from jaxmedgen.data.untrusted import DataError


@dataclasses.dataclass(frozen=True)
class Prepared(Wrapped):
    """Another source's subjects on the network's grid.

    Attributes:
        preprocessing: fitted settings.
    """

    preprocessing: Preprocessing

    @property
    def info(self) -> DatasetInfo:
        """The parent's info with the spacing of the new grid."""
        spacing = self.preprocessing.spacing
        if isinstance(spacing, str):  # "native"
            return self.source.info
        return dataclasses.replace(self.source.info, spacing=spacing)

    def __getitem__(self, index: int) -> Record:
        """``image`` and ``label`` as the source has them; a ``spacing`` of its own where native.

        Raises:
            DataError: the subject cannot be preprocessed.
        """
        record = self.source[index]
        spacing = spacing_of(self.source, record)
        try:
            made, _ = self.preprocessing.apply(spacing, record.get("image"), record.get("label"))
        except ValueError as error:
            raise DataError(f"{self.source.info.case_names[index]}: {error}") from error
        if self.preprocessing.spacing == "native" and "spacing" in record:
            made["spacing"] = record["spacing"]
        return made


def fitted(source: Source, settings: Preprocessing, chosen: Sequence[int]) -> Preprocessing:
    """Settings whose open parts are fitted to some subjects.

    Args:
        source: subjects before preprocessing.
        settings: may leave the spacing or CT statistics open.
        chosen: numbers of the subjects that train.

    Raises:
        ValueError: no subjects where there is something to fit, or a shape or spacing of another
            number of axes than the subjects'.
    """
    axes = len(source.info.spacing)
    for name, value in (("shape", settings.shape), ("spacing", settings.spacing)):
        if isinstance(value, tuple) and len(value) != axes:
            raise ValueError(
                f"data.{name}={value} has {len(value)} axes, the data set's subjects have {axes}: "
                "give one number an axis"
            )
    statistics = settings.needs_ct_statistics()
    if settings.spacing not in (None, "fit") and not statistics:
        return settings
    spacings, shapes, samples = [], [], []
    for number in chosen:
        record = source[number]
        image, label = record.get("image"), record.get("label")
        spacings.append(spacing_of(source, record))
        shape = image.shape[:-1] if label is None else label.shape
        box = None
        if settings.crop_to_nonzero:
            box = nonzero_box(label[..., None] if image is None else image)
        shapes.append(shape if box is None else tuple(s.stop - s.start for s in box))
        if statistics and image is not None:
            samples.append(foreground_sample(image, label))
    joined = [np.concatenate(column) for column in zip(*samples)] if statistics else None
    return settings.fit(spacings, joined, shapes)


def check_fitted(settings: Preprocessing) -> None:
    """Refuses settings that would be fitted anew.

    Raises:
        ValueError: with what is open.
    """
    if settings.spacing in (None, "fit") or settings.needs_ct_statistics():
        raise ValueError(
            f"preprocessing {settings.to_json()} has a spacing or statistics still to be fitted: "
            "give those that a run stored in dataset.json"
        )
