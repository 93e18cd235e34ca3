"""Synthetic subjects of a Riemannian VAE, trained on the labelled subjects of one run.

Images and label maps are modelled together and drawn from the inverse volume of the learned metric,
so that a draw lies near the subjects and its labels fit its image. Large volumes are modelled on a
coarser grid: what a few subjects determine is smooth anyway.
"""

import dataclasses
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from jaxmedgen import configuration
from jaxmedgen.data.sources import ArraySource, Source
from jaxmedgen.experiments.model_training import counted_seconds, train_model
from jaxmedgen.experiments.training import model_steps
from jaxmedgen.ops.resize import resize
from jaxmedgen.train.progress import Progress

STEPS = 400
IMAGES = 4
"""Synthetic subjects for each real one."""

_VOXELS = 16384
"""Of the grid that is modelled, at most."""
_HIDDEN = 64
_LATENTS = 6
_DEVIATION = 0.5


def synthetic_subjects(
    config: ConfigDict,
    labelled: Source,
    folder: pathlib.Path,
    seed: int,
    *,
    progress: Progress | None = None,
) -> ArraySource:
    """`IMAGES` synthetic subjects for each labelled one.

    A training that was stopped is gone on with, a finished one is read.

    Args:
        config: of the segmenter's training; its devices are taken.
        labelled: the subjects of this run, and nobody else, of one size.
        folder: of the training.
        seed: of the training and of the draws.
        progress: where to show progress.

    Raises:
        ValueError: no subjects, or subjects of different sizes.
    """
    if len(labelled) == 0:
        raise ValueError("no labelled subjects: a model of them needs some")
    shapes = {np.shape(labelled[i]["label"]) for i in range(len(labelled))}
    if len(shapes) > 1:
        raise ValueError(f"subjects of sizes {sorted(shapes)}: crop them to one, set data.shape")
    (shape,) = shapes
    factor = max(1, math.ceil((math.prod(shape) / _VOXELS) ** (1 / len(shape))))
    with counted_seconds(folder):
        seen = _coarse(labelled, factor)
        made = _config(config, seen, seed)
        system, variables = train_model(made, seen, folder, "rhvae", progress=progress)
    channels = system.content.image_channels

    @jax.jit
    def draw(variables, keys):
        means = system.decode(variables, system.draw(variables, keys[None]))[0]
        large = resize(means, shape)
        label = jnp.argmax(large[..., channels:], -1).astype(jnp.int32)
        return large[..., :channels], label

    keys = jax.random.split(jax.random.key(seed), IMAGES * len(labelled)).reshape(-1, IMAGES)
    records, names = [], []
    for subject, few in enumerate(keys):
        image, label = map(np.asarray, draw(variables, few))
        records += [{"image": i, "label": k} for i, k in zip(image, label)]
        name = labelled.info.case_names[subject]
        names += [f"{name}-synthetic-{number}" for number in range(IMAGES)]
    return ArraySource(records, dataclasses.replace(labelled.info, case_names=tuple(names)))


def _coarse(labelled: Source, factor: int) -> ArraySource:
    """Subjects with about `factor` times fewer voxels an axis; 1 leaves them as they are.

    Images and one-hot labels go through the same averages, so that they stay on one grid, that from
    which draws are enlarged; the class with the largest share of a voxel is its label.
    """
    classes = labelled.info.num_classes
    records = []
    for i in range(len(labelled)):
        image, label = (np.asarray(labelled[i][k]) for k in ("image", "label"))
        shape = tuple(-(-n // factor) for n in label.shape)
        small = _averaged(image, shape)
        if factor > 1:
            shares = [_averaged(label[..., None] == k, shape)[..., 0] for k in range(classes)]
            label = np.argmax(shares, 0)
        records.append({"image": small, "label": label.astype(np.int32)})
    return ArraySource(records, labelled.info)


def _averaged(array: np.ndarray, shape: tuple[int, ...]) -> Float[np.ndarray, "*o c"]:
    """`array` ``[*s, c]`` on a coarser grid, what that cannot show averaged out."""
    return np.asarray(resize(jnp.asarray(array[None], jnp.float32), shape, antialias=True)[0])


def _config(config: ConfigDict, seen: Source, seed: int) -> ConfigDict:
    """The `rhvae` configuration for images and labels of the subjects' shape."""
    made = configuration.load_config("rhvae:cpu,arm=both")
    with made.unlocked():
        steps = model_steps(config, STEPS)
        made.seed, made.steps, made.checkpoint_every = seed, steps, steps
        made.batch_size = made.data.train = made.model.subjects = len(seen)
        made.data.shape = tuple(int(n) for n in np.shape(seen[0]["label"]))
        made.model.update(kinds=1, condition="", likelihood="gaussian", deviation=_DEVIATION)
        made.model.update(latents=_LATENTS, hidden=_HIDDEN)
        made.parallel = config.parallel
        made.parallel.data = 1  # one batch of all subjects, whatever their number
    return made
