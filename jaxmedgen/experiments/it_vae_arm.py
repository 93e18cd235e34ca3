"""Deformations drawn from an IT-VAE of the labelled training subjects of one run."""

import pathlib

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxmedgen import configuration
from jaxmedgen.augment.latent import LatentAugmentation, LatentMode
from jaxmedgen.data.build import Sources
from jaxmedgen.data.sources import Source, subset
from jaxmedgen.experiments.training import train
from jaxmedgen.systems.base import build_system, evaluation_variables

_STEPS = 600
_BATCH = 8
_GRID_SPACING = 8
"""Least distance of control points in voxels; there are at most 8 an axis."""


def train_it_vae(
    config: ConfigDict, labelled: Source, workdir: pathlib.Path, seed: int, mode: LatentMode
) -> LatentAugmentation:
    """Trains a C-VITAE on some subjects' images and returns its deformations.

    Labels are not looked at. A training that was stopped is gone on with, a finished one is read.

    Args:
        config: of the segmenter's training.
        labelled: the subjects, and nobody else: shapes of others would leak.
        workdir: folder of the training.
        seed: of the training.
        mode: how latent vectors are drawn; ``mixed`` becomes ``instance`` for a single subject.

    Raises:
        ValueError: the segmenter is trained on patches.
    """
    if tuple(config.patch_size):
        raise ValueError(
            f"the it-vae arms deform whole images, not patches of {tuple(config.patch_size)}: set "
            "--config.patch_size='()'"
        )
    made = _config(config, labelled, seed)
    nobody = subset(labelled, ())
    system = build_system(made, labelled.info)
    result = train(made, Sources(labelled, nobody, nobody, labelled.info), system, workdir)
    variables = evaluation_variables(result.state)
    encode = jax.jit(lambda image: system.encode(variables, image)[0])
    found = [encode(jnp.asarray(labelled[i]["image"])[None]) for i in range(len(labelled))]
    posterior = jax.tree.map(lambda *parts: jnp.concatenate(parts), *found)
    if len(labelled) == 1 and mode == "mixed":
        mode = "instance"
    return system.augmentation(variables, posterior, mode)


def _config(config: ConfigDict, labelled: Source, seed: int) -> ConfigDict:
    """The `population` configuration for images of the subjects' shape."""
    shape = tuple(labelled[0]["image"].shape[:-1])
    made = configuration.load_config("it_vae:cpu,data=population")
    with made.unlocked():
        made.seed, made.steps, made.batch_size = seed, _STEPS, _BATCH
        made.criterion.warm_up = 3 * _STEPS // 10
        made.data.shape = shape
        made.model.grid = max(4, min(8, min(shape) // _GRID_SPACING))
        made.parallel = config.parallel
    return made
