"""Findings added by GenSeg, trained on the labelled subjects of one run alone.

The finding is the rarest foreground class (fewest voxels over the subjects): with tissues and a
lesion that is the lesion. Windows that hold it are GenSeg's images with the finding, windows
without a voxel of it those without, if their intensities vary at least half as much as those of
the former (air and other empty places are left out). Windows have half of the images' size, in two
or three dimensions.
"""

import itertools
import pathlib

import numpy as np
from ml_collections import ConfigDict

from jaxmedgen import configuration
from jaxmedgen.augment.findings import AddedFindings
from jaxmedgen.augment.presets import preset
from jaxmedgen.data.sources import DatasetInfo, Source
from jaxmedgen.data.unpaired import Pairs, Unpaired
from jaxmedgen.experiments.model_training import (
    counted_seconds,
    model_seconds,
    train_model,
)
from jaxmedgen.experiments.training import model_steps
from jaxmedgen.train.collapse import collapse_warnings
from jaxmedgen.train.metrics_log import read_metrics
from jaxmedgen.train.progress import Progress

_STEPS = {2: 600, 3: 300}
_BATCH = 8
_MULTIPLE = 8
_SMALLEST = 16
_LEAST_SHARE = 0.005


def train_genseg(
    config: ConfigDict,
    labelled: Source,
    workdir: pathlib.Path,
    seed: int,
    *,
    progress: Progress | None = None,
) -> tuple[AddedFindings, float, tuple[str, ...]]:
    """Trains GenSeg on windows of some subjects and returns its transform.

    A training that was stopped is gone on with, a finished one is read.

    Args:
        config: of the segmenter's training.
        labelled: the subjects, and nobody else.
        workdir: folder of the training.
        seed: of the training.
        progress: where to show progress.

    Returns:
        The transform, what its model has cost in seconds, and signs of a collapse.

    Raises:
        ValueError: the segmenter is trained on patches, images are too small for windows, or there
            are no windows of one kind.
    """
    if tuple(config.patch_size):
        raise ValueError(
            f"the genseg arm adds to whole images, not to patches of {tuple(config.patch_size)}: "
            "set --config.patch_size='()'"
        )
    with counted_seconds(workdir):
        finding, scale = rarest_class(labelled), largest_value(labelled)
        size = window_size(labelled[0]["label"].shape)
        found, least = windows(labelled, size, finding, scale)
        info = DatasetInfo(
            class_names=("background", labelled.info.class_names[finding]),
            channel_names=labelled.info.channel_names,
            spacing=labelled.info.spacing,
            case_names=found.names,
        )
        made, pairs = _config(config, size, seed), Pairs(found, info)
        system, variables = train_model(
            made, pairs, workdir, "genseg", info=info, progress=progress
        )

    def residual(keys, image):
        absence, presence = system.domain_names
        with_finding = system.translate(variables, keys, image, presence)
        return with_finding - system.translate(variables, keys, image, absence)

    transform = AddedFindings(
        residual,
        lambda image: system.predict(variables, image)[..., 1],
        size,
        finding,
        scale,
        least,
        preset("none", labelled.info.spacing),
    )
    warnings = collapse_warnings(read_metrics(workdir / "metrics.jsonl", split="train"))
    return transform, model_seconds(workdir), warnings


def rarest_class(labelled: Source) -> int:
    """The foreground class with the fewest voxels, of those that occur.

    Raises:
        ValueError: no subject has any foreground.
    """
    count = np.zeros(labelled.info.num_classes, np.int64)
    for i in range(len(labelled)):
        count += np.bincount(labelled[i]["label"].ravel(), minlength=len(count))[: len(count)]
    present = [k for k in range(1, len(count)) if count[k]]
    if not present:
        raise ValueError("the genseg arm needs labelled subjects with foreground: there is none")
    return min(present, key=lambda k: count[k])


def largest_value(labelled: Source) -> float:
    """99.5th percentile of the intensities' magnitude: what GenSeg gets as 1."""
    values = [np.percentile(np.abs(labelled[i]["image"]), 99.5) for i in range(len(labelled))]
    return max(float(np.mean(values)), 1e-6)


def window_size(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Half of every axis, a multiple of eight, at least 16.

    Raises:
        ValueError: an axis is shorter than that.
    """
    size = tuple(max(_SMALLEST, _MULTIPLE * round(n / 2 / _MULTIPLE)) for n in shape)
    if any(n < w for n, w in zip(shape, size)):
        raise ValueError(f"images {tuple(shape)}: the genseg arm needs {_SMALLEST} voxels an axis")
    return size


def windows(
    labelled: Source, size: tuple[int, ...], finding: int, scale: float
) -> tuple[Unpaired, float]:
    """Windows with and without the finding, and the least deviation of the latter.

    Args:
        labelled: the subjects.
        size: of the windows; they are a quarter of it apart.
        finding: its class.
        scale: intensities are divided by it and clipped to [-1, 1].

    Raises:
        ValueError: there are none of one kind.
    """
    present, empty, names = [], [], []
    for number, case in enumerate(labelled.info.case_names):
        record = labelled[number]
        image = np.clip(np.asarray(record["image"], np.float32) / scale, -1, 1)
        mask = (np.asarray(record["label"]) == finding).astype(np.int32)
        starts = [
            sorted({*range(0, n - w + 1, max(w // 4, 1)), n - w}) for n, w in zip(mask.shape, size)
        ]
        for corner in itertools.product(*starts):
            place = tuple(slice(c, c + w) for c, w in zip(corner, size))
            share = mask[place].mean()
            if share > _LEAST_SHARE:
                present.append({"image": image[place], "label": mask[place]})
                names.append(f"{case}-{'-'.join(map(str, corner))}")
            elif share == 0:
                empty.append(image[place])
    spread = [float(r["image"].std()) for r in present]
    least = 0.5 * float(np.median(spread)) if spread else 0.0
    absent = [image for image in empty if image.std() > least]
    if not present or not absent:
        name = labelled.info.class_names[finding]
        raise ValueError(
            f"{len(present)} windows of {size} voxels have the class '{name}' and {len(absent)} "
            "have not: the genseg arm needs both, so a class that is absent from parts of the "
            "images"
        )
    return Unpaired(tuple(present), tuple(absent), tuple(names)), least


def _config(config: ConfigDict, size: tuple[int, ...], seed: int) -> ConfigDict:
    """GenSeg's `cpu` configuration for windows of a size."""
    made = configuration.load_config("genseg:cpu")
    with made.unlocked():
        made.seed, made.batch_size, made.clip = seed, _BATCH, True
        made.steps = model_steps(config, _STEPS[len(size)])
        made.eval_every = made.show_every = 0
        made.checkpoint_every = made.steps
        made.data.shape = size
        if len(size) == 3:
            made.net.residual_taps = 3
        made.parallel = config.parallel
    return made
