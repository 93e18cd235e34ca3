"""Folders of scans whose grey values tell their structures, and runs that see them rightly."""

import json

import jax
import numpy as np

from jaxmedgen.configuration import load_config
from jaxmedgen.data.folders import FolderSource
from jaxmedgen.data.preprocess import Preprocessing
from jaxmedgen.experiments.runs import TrainedRun
from tests.data.making_folders import SHAPE, save
from tests.train.toys import Regression

PLAIN = Preprocessing(spacing="native", normalization="none")
SIZES = {"edema": 24, "tumour": 6}
GREY = {"edema": 1.0, "tumour": 2.0, "cyst": 3.0}


class ByGrey(Regression):
    """Class k of three is what has grey value k."""

    def predict(self, variables, image):
        return jax.nn.one_hot(image[..., 0].round().astype(int), 3)


def subject():
    """A scan whose grey values tell its structures, and where these are."""
    image = np.zeros(SHAPE, np.float32)
    image[1:5, 1:4, 1:3], image[5:7, 5:8, 4] = GREY["edema"], GREY["tumour"]
    return image, {name: image == grey for name, grey in GREY.items()}


def write(folder, values, names=None, present=("edema", "tumour")):
    """A folder of two such scans, whose structures have these values; `names` of dataset.json."""
    image, where = subject()
    label = np.zeros(SHAPE, np.int32)
    for name in present:
        label[where[name]] = values[name]
    kinds = ("imagesTr", "labelsTr") if names else ("images", "labels")
    ends = ("_0000", "") if names else ("", "")
    for case in "ab":
        for kind, end, array in zip(kinds, ends, (image, label)):
            save(folder / kind / f"{case}{end}.nii.gz", array)
    if names:
        content = {"channel_names": {"0": "T1"}, "labels": names, "numTraining": 2}
        (folder / "dataset.json").write_text(json.dumps(content | {"file_ending": ".nii.gz"}))
    return folder


def trained_on(folder, **data):
    """A run on the folder; `data` are settings."""
    settings = {"data.kind": "folder", "data.folder": str(folder), "data.shape": "()"}
    settings |= {f"data.{key}": value for key, value in data.items()}
    config = load_config("unet:cpu", settings)
    source = FolderSource(folder, PLAIN)
    return TrainedRun(folder, config, source.info, PLAIN, ByGrey(), source.label_map)
