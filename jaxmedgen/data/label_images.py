"""Label maps as images, for models that compare subjects by their tissues."""

import dataclasses

import numpy as np

from jaxmedgen.data.sources import DatasetInfo, Record, Source


@dataclasses.dataclass(frozen=True)
class LabelImages:
    """A label-only source that shows each foreground class as a channel of zeros and ones."""

    source: Source

    @property
    def info(self) -> DatasetInfo:
        """The parent's info with the foreground classes as channels."""
        info = self.source.info
        return dataclasses.replace(info, channel_names=info.class_names[1:])

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Record:
        record = self.source[index]
        classes = np.arange(1, self.source.info.num_classes)
        return {**record, "image": (record["label"][..., None] == classes).astype(np.float32)}
