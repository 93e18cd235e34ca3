"""Synthetic images of a label-conditional generator, trained on the labelled subjects of one run.

The generator (SPADE with a style encoder) sees the labelled training subjects and nobody else.
Volumes are cut into slices, each with a style of its subject; synthetic volumes are stacks of
slices in one style. A volumetric generator makes them whole.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from jaxmedgen import configuration
from jaxmedgen.data.image_slices import ImageSlices, thick_axis
from jaxmedgen.data.sources import ArraySource, Source, joined
from jaxmedgen.data.stacks import base_first
from jaxmedgen.experiments.generator_settings import fit_to_subjects
from jaxmedgen.experiments.label_vae_arm import train_label_vae
from jaxmedgen.experiments.model_training import (
    counted_seconds,
    model_seconds,
    train_model,
)
from jaxmedgen.experiments.rendering import Draw, compiled, draw_image
from jaxmedgen.experiments.training import model_steps
from jaxmedgen.ops.percentiles import HIGH, LOW
from jaxmedgen.ops.slice_interpolation import interpolate_labels
from jaxmedgen.train.collapse import collapse_warnings
from jaxmedgen.train.metrics_log import read_metrics
from jaxmedgen.train.progress import Progress

STEPS = 600
IMAGES = 4
"""Synthetic images for each real one."""

_BATCH = 8

LabelDraws = Callable[[int], Sequence[Int[np.ndarray, "*s"]]]
"""``subject -> label maps`` on the subject's grid, `IMAGES` of them."""


@dataclasses.dataclass(frozen=True)
class Generator:
    """A trained generator.

    Attributes:
        draw: makes images in [-1, 1].
        slice_axis: of volumes that are made slice by slice, else None.
        seconds: that its training took.
        warnings: signs of a collapse in its training.
    """

    draw: Draw
    slice_axis: int | None
    seconds: float
    warnings: tuple[str, ...] = ()


def train_generator(
    config: ConfigDict,
    labelled: Source,
    folder: pathlib.Path,
    seed: int,
    *,
    volumetric: bool = False,
    progress: Progress | None = None,
) -> Generator:
    """Trains SPADE on labelled subjects; a stopped training is gone on with, a finished one read.

    Args:
        config: of the segmenter's training.
        labelled: the subjects, 2D or 3D, and nobody else.
        folder: of the training.
        seed: of the training.
        volumetric: whether 3D subjects are seen whole.
        progress: where to show progress.
    """
    with counted_seconds(folder):
        flat = len(labelled.info.spacing) == 2 or volumetric
        shown = labelled if flat else ImageSlices(labelled)
        made = generator_config(config, shown, seed)
        system, variables = train_model(made, shown, folder, "spade", progress=progress)
    axis = None if flat else thick_axis(labelled.info.spacing)
    draw = compiled(system, variables, stylise=False)
    warnings = collapse_warnings(read_metrics(folder / "metrics.jsonl", split="train"))
    return Generator(draw, axis, model_seconds(folder), warnings)


def generator_config(config: ConfigDict, shown: Source, seed: int) -> ConfigDict:
    """The `cardiac_synthesis` configuration for images of the subjects' shape."""
    shape = tuple(int(n) for n in np.shape(shown[0]["label"]))
    made = configuration.load_config("cardiac_synthesis:cpu,arm=vae")
    with made.unlocked():
        steps = model_steps(config, STEPS)
        made.seed, made.steps, made.batch_size = seed, steps, _BATCH
        made.features.steps = steps // 6
        made.show_every = 0
        fit_to_subjects(made, shape)
        made.parallel = config.parallel
    return made


def synthetic_images(
    generator: Generator, labelled: Source, seed: int, labels: LabelDraws | None = None
) -> ArraySource:
    """`IMAGES` synthetic images for each labelled subject, in drawn styles.

    Intensities are mapped to the window (1 to 99 %) of the subject's real image.

    Args:
        generator: of these subjects.
        labelled: the subjects.
        seed: of the styles and labels.
        labels: makes the label maps; by default they are the subject's own.
    """
    records, names = [], []
    for subject in range(len(labelled)):
        record = labelled[subject]
        own = np.asarray(record["label"], np.int32)
        maps = [own] * IMAGES if labels is None else labels(subject)
        image = np.asarray(record["image"])
        low, high = np.percentile(image.reshape(-1, image.shape[-1]), (LOW, HIGH), axis=0)
        for number, label in enumerate(maps):
            key = jax.random.fold_in(jax.random.key(seed), subject * IMAGES + number)
            made, _ = draw_image(generator.draw, key, label, generator.slice_axis)
            made = (low + (made + 1) / 2 * (high - low)).astype(np.float32)
            records.append({"image": made, "label": np.asarray(label, np.int32)})
            names.append(f"{labelled.info.case_names[subject]}-synthetic-{number}")
    return ArraySource(records, dataclasses.replace(labelled.info, case_names=tuple(names)))


def with_synthetic(labelled: Source, synthetic: ArraySource) -> ArraySource:
    """Real subjects and synthetic ones as one source of images and labels.

    Real ones are repeated until they are half of it, or as near as whole repetitions come: with
    less of them a strong policy loses more than the synthetic ones give
    (``bin/reproduce learned_augmentation``).
    """
    records = [{k: labelled[i][k] for k in ("image", "label")} for i in range(len(labelled))]
    real = ArraySource(records, labelled.info)
    return joined([real] * max(1, round(len(synthetic) / len(real))) + [synthetic])


def label_draws(
    config: ConfigDict,
    labelled: Source,
    folder: pathlib.Path,
    seed: int,
    *,
    progress: Progress | None = None,
) -> LabelDraws:
    """Label maps between those of the subjects, from a VAE of them.

    A new stack takes the place of the subject's foreground: the same slices, none beside them.

    Args:
        config: of the segmenter's training.
        labelled: the subjects.
        folder: of the VAE's training.
        seed: of the VAE and of the maps.
        progress: where to show progress.
    """
    sampler = train_label_vae(config, labelled, folder, seed, progress=progress)

    def draw(subject: int) -> Sequence[np.ndarray]:
        made = sampler(np.random.default_rng((seed, subject)), IMAGES)
        record = labelled[subject]
        if np.ndim(record["label"]) == 2:
            return list(made)
        axis = thick_axis(record.get("spacing", labelled.info.spacing))
        own = np.moveaxis(np.asarray(record["label"]), axis, 0)
        return [
            np.moveaxis(placed(stack, own, labelled.info.num_classes), 0, axis) for stack in made
        ]

    return draw


def placed(
    stack: Int[np.ndarray, "m h w"], own: Int[np.ndarray, "n h w"], classes: int
) -> Int[np.ndarray, "n h w"]:
    """A stack, base first, where the foreground of another one lies and in its direction.

    One without foreground has no such place: it stays as it is.
    """
    filled = np.flatnonzero((own > 0).any((1, 2)))
    if not filled.size:
        return own
    first, last = int(filled[0]), int(filled[-1]) + 1
    positions = np.linspace(0, len(stack) - 1, last - first)
    new = interpolate_labels(stack, positions, classes=classes)
    part = own[first:last]
    out = np.zeros_like(own)
    out[first:last] = new if np.array_equal(base_first(part), part) else new[::-1]
    return out
