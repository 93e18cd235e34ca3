"""Networks that judge synthetic hearts: a segmenter and a vendor classifier, trained on real ones.

They see the training slices as the generators do (percentiles to [-1, 1]) and nothing synthetic.
"""

import dataclasses
import json
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxmedgen.configuration import load_config
from jaxmedgen.data.phantoms.short_axis import merge_tissues
from jaxmedgen.data.phantoms.vendors import VENDORS
from jaxmedgen.data.sources import ArraySource, Source
from jaxmedgen.experiments.model_training import alone
from jaxmedgen.experiments.reproductions.record import Options
from jaxmedgen.experiments.reproductions.trained_model import trained_model
from jaxmedgen.experiments.synthetic.extractors import trained_classifier
from jaxmedgen.metrics.frechet import fid
from jaxmedgen.metrics.kernel_distance import kid
from jaxmedgen.metrics.segmentation import dice_score
from jaxmedgen.nets.feature_extractor import Extractor, extract, unet_extractor
from jaxmedgen.ops.percentiles import scale_intensities
from jaxmedgen.systems.segmentation.unet import PLAYER
from jaxmedgen.train.environment import write_json

STEPS = 400
CLASSIFIER_STEPS = 200
CLASSES = 4
_BATCH = 50


@dataclasses.dataclass(frozen=True, eq=False)
class Slices:
    """Real slices in memory, as the networks see them.

    Attributes:
        image: ``[n, h, w, 1]`` in [-1, 1].
        label: ``[n, h, w]``, as the generators get it (4 or 8 classes).
        vendor: names.
    """

    image: np.ndarray
    label: np.ndarray
    vendor: np.ndarray

    def of(self, chosen: np.ndarray) -> "Slices":
        """Some of them, by numbers or a mask."""
        return Slices(self.image[chosen], self.label[chosen], self.vendor[chosen])


def slices_of(source: Source) -> Slices:
    """All slices of a source with their vendors."""
    records = [source[i] for i in range(len(source))]
    image = np.stack([r["image"] for r in records])
    scaled = np.asarray(scale_intensities(jnp.asarray(image), "slice"))
    vendor = np.array([VENDORS[int(r["vendor"])] for r in records])
    return Slices(scaled, np.stack([r["label"] for r in records]), vendor)


class Judges:
    """The segmenter and the classifier."""

    def __init__(self, options: Options, real: Source) -> None:
        """Trains both on `real`, or reads them; seconds are kept with them."""
        folder = options.workdir / "judges"
        started = time.perf_counter()
        slices = slices_of(real)
        records = [
            {"image": image, "label": merge_tissues(label, CLASSES)}
            for image, label in zip(slices.image, slices.label)
        ]
        names = real.info.class_names[:CLASSES]
        source = ArraySource(records, dataclasses.replace(real.info, class_names=names))
        self._segment, self.encoder = _segmenter(options, source)
        self.extractor: Extractor = trained_classifier(
            source, tuple(slices.vendor), folder / "classifier", steps=CLASSIFIER_STEPS
        )
        self.vendors = sorted(set(slices.vendor))
        self.seconds = kept_seconds(folder, time.perf_counter() - started)

    def segment(self, image: Float[np.ndarray, "n h w 1"]) -> Int[np.ndarray, "n h w"]:
        """Classes of every pixel."""
        parts = [image[i : i + _BATCH] for i in range(0, len(image), _BATCH)]
        return np.concatenate([np.asarray(self._segment(jnp.asarray(part))) for part in parts])

    def fidelity(
        self, image: Float[np.ndarray, "n h w 1"], label: Int[np.ndarray, "n h w"]
    ) -> Float[np.ndarray, " n"]:
        """Dice of each image's segmentation and the label map it was made from."""
        return agreement(self.segment(image), merge_tissues(label, CLASSES))

    def named(self, image: Float[np.ndarray, "n h w 1"]) -> np.ndarray:
        """The vendor that each image looks like."""
        return np.array(self.vendors)[extract(self.extractor.probs, image).argmax(-1)]

    def distance(
        self,
        real: Float[np.ndarray, "n h w 1"],
        made: Float[np.ndarray, "m h w 1"],
        *,
        encoder: bool = False,
    ) -> float:
        """FID in the features of the classifier, or of the segmenter's encoder."""
        features = (self.encoder if encoder else self.extractor).features
        return fid(*(extract(features, x) for x in (real, made)))

    def kernel_distance(
        self, real: Float[np.ndarray, "n h w 1"], made: Float[np.ndarray, "m h w 1"]
    ) -> float:
        """KID in the features of the classifier."""
        features = self.extractor.features
        return kid(*(extract(features, x) for x in (real, made)), subsets=20).mean


def agreement(
    prediction: Int[np.ndarray, "n h w"], label: Int[np.ndarray, "n h w"]
) -> Float[np.ndarray, " n"]:
    """Mean Dice over the classes of the heart."""
    return np.asarray(dice_score(jnp.asarray(prediction), jnp.asarray(label), CLASSES))


def without_heart(
    image: Float[np.ndarray, "n h w 1"], label: Int[np.ndarray, "n h w"]
) -> Float[np.ndarray, "n h w 1"]:
    """Images whose heart is blanked: what is left is background."""
    return np.where((merge_tissues(label, CLASSES) > 0)[..., None], np.float32(-1), image)


def kept_seconds(folder: pathlib.Path, took: float) -> float:
    """Time of a training's first run, as its folder remembers it."""
    path = folder / "seconds.json"
    if not path.exists():
        write_json(path, took)
    return float(json.loads(path.read_text()))


def _segmenter(options: Options, source: Source):
    config = load_config("unet:cpu,arm=light")
    with config.unlocked():
        config.steps = config.checkpoint_every = STEPS
        config.batch_size, config.eval_every = 8, 0
        config.data.shape = source[0]["label"].shape
        config.parallel.data = 1
    model = trained_model(options, "judges/segmenter", config, alone(source), "segmenter")
    encoder = unet_extractor(model.system.net, model.variables[PLAYER], "segmenter of real slices")
    predict = model.system.predict
    return jax.jit(lambda image: jnp.argmax(predict(model.variables, image), -1)), encoder
