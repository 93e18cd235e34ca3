"""Label maps shown as images."""

import numpy as np

from jaxmedgen.data.label_images import LabelImages
from jaxmedgen.data.phantoms.shapes import Shapes


def test_each_foreground_class_is_a_channel():
    source = Shapes(2, (8, 8, 8), 0)
    shown = LabelImages(source)
    assert shown.info.channel_names == source.info.class_names[1:]
    record = shown[1]
    label = source[1]["label"]
    for k in range(1, source.info.num_classes):
        np.testing.assert_array_equal(record["image"][..., k - 1] == 1, label == k)
