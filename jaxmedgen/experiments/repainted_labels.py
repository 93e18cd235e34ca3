"""Images for new label maps of given subjects, without a generator: what changed is repainted.

A voxel whose class is the subject's own keeps its intensity; one that changed takes that of a
random voxel of its new class in the same subject: new anatomy in the subject's own intensities.
"""

import dataclasses
import pathlib

import numpy as np
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from jaxmedgen.data.sources import ArraySource, Source
from jaxmedgen.experiments.spade_arm import label_draws
from jaxmedgen.train.progress import Progress


def repaint(
    image: Float[np.ndarray, "*s c"],
    own: Int[np.ndarray, "*s"],
    new: Int[np.ndarray, "*s"],
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "*s c"], Int[np.ndarray, "*s"]]:
    """The image of `own` as one of `new`, and its label map.

    A class that the subject does not have has no intensities: where the new map asks for it, image
    and label stay as they are.

    Args:
        image: of the subject.
        own: its label map.
        new: the label map that is wanted.
        rng: picks the voxels that intensities are taken from.
    """
    made, label = image.copy(), own.copy()
    for k in np.unique(new):
        changed, there = (new == k) & (own != k), own == k
        if changed.any() and there.any():
            values = image[there]
            made[changed] = values[rng.integers(len(values), size=int(changed.sum()))]
            label[changed] = k
    return made, label


def repainted_subjects(
    config: ConfigDict,
    labelled: Source,
    folder: pathlib.Path,
    seed: int,
    *,
    progress: Progress | None = None,
) -> ArraySource:
    """A few images of new anatomy for each labelled subject, with label maps of a VAE of them.

    Args:
        config: of the segmenter's training.
        labelled: the subjects of this run, and nobody else.
        folder: of the VAE's training.
        seed: of the VAE, the maps and the intensities.
        progress: where to show progress.
    """
    draw = label_draws(config, labelled, folder, seed, progress=progress)
    records, names = [], []
    for subject in range(len(labelled)):
        record = labelled[subject]
        image, own = np.asarray(record["image"]), np.asarray(record["label"], np.int32)
        for number, new in enumerate(draw(subject)):
            rng = np.random.default_rng((seed, subject, number))
            made, label = repaint(image, own, np.asarray(new, np.int32), rng)
            records.append({"image": made, "label": label})
            names.append(f"{labelled.info.case_names[subject]}-repainted-{number}")
    return ArraySource(records, dataclasses.replace(labelled.info, case_names=tuple(names)))
