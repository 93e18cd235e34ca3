"""Label maps as images, for models that compare subjects by their tissues."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from jaxmedgen.data.sources import DatasetInfo, Record, Wrapped


@dataclasses.dataclass(frozen=True)
class LabelImages(Wrapped):
    """A label-only source that shows each foreground class as a channel of zeros and ones."""

    @property
    def info(self) -> DatasetInfo:
        """The parent's info with the foreground classes as channels."""
        info = self.source.info
        return dataclasses.replace(info, channel_names=info.class_names[1:])

    def __getitem__(self, index: int) -> Record:
        record = self.source[index]
        return {**record, "image": tissue_image(record["label"], self.source.info.num_classes)}


def tissue_image(label: Int[np.ndarray, "*s"], classes: int) -> Float[np.ndarray, "*s c"]:
    """A label map as an image: each foreground class is a channel of zeros and ones.

    Args:
        label: class indices.
        classes: number of classes, background included; one more than channels.
    """
    return (label[..., None] == np.arange(1, classes)).astype(np.float32)
