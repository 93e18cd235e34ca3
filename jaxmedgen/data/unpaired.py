"""Images of two domains that belong to nobody in common, shown side by side for training."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from jaxmedgen.data.preprocess import Preprocessing
from jaxmedgen.data.sources import DatasetInfo, Record


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where slices were cut: what it takes to do the same with a new volume.

    Attributes:
        preprocessing: that brings a volume onto the grid that slices are cut from, fitted.
        finding: the volumes' label values that are the finding.
        label_map: file value -> label value of the volumes, where files have others.
    """

    preprocessing: Preprocessing
    finding: tuple[int, ...]
    label_map: Mapping[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class Unpaired:
    """Images with a finding and images without.

    Attributes:
        present: those with: ``image`` ``[*s, c]`` and ``label`` ``[*s]``.
        absent: those without, ``[*s, c]``.
        names: of `present`.
        places: where the images of `absent` lie in their volumes, from 0 to 1; () if unknown.
    """

    present: tuple[Record, ...]
    absent: tuple[np.ndarray, ...]
    names: tuple[str, ...]
    places: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Images with and without a finding side by side, in no relation to each other.

    An epoch shows every image at least once: the fewer ones are repeated. Item i holds image with
    finding ``i mod n_P`` and image without ``i mod n_A``.

    Attributes:
        parts: the images.
        dataset: of the images with a finding.
        origin: of images that are slices of volumes, or None.
    """

    parts: Unpaired
    dataset: DatasetInfo
    origin: Origin | None = None

    @property
    def info(self) -> DatasetInfo:
        """Names are numbered: an image can occur more than once."""
        names = self.parts.names
        count = len(names)
        repeated = tuple(f"{names[i % count]}_{i // count}" for i in range(len(self)))
        return dataclasses.replace(self.dataset, case_names=repeated)

    def __len__(self) -> int:
        count = len(self.parts.present)
        return count * max(1, -(-len(self.parts.absent) // count))

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        present, absent, places = self.parts.present, self.parts.absent, self.parts.places
        place = {"absent_place": np.float32(places[index % len(absent)])} if places else {}
        return {
            **present[index % len(present)],
            **place,
            "absent": absent[index % len(absent)],
            "domain": np.int32(0),
        }
