"""Deformations drawn from an IT-VAE of the labelled training subjects of one run."""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array
from ml_collections import ConfigDict

from jaxmedgen import configuration
from jaxmedgen.augment.latent import LatentAugmentation, LatentMode
from jaxmedgen.augment.policy import Augmentation
from jaxmedgen.augment.presets import configured
from jaxmedgen.data.sources import ImagesOnly, Source
from jaxmedgen.data.sources import joined as joined_sources
from jaxmedgen.experiments.model_training import counted_seconds, train_model
from jaxmedgen.experiments.training import model_steps
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.deformation.it_vae import PLAYER, ItVae
from jaxmedgen.train.progress import Progress

_STEPS = 600
_BATCH = 8
_GRID_SPACING = 8
"""Least distance of control points in voxels; there are at most 8 an axis."""


def train_it_vae(
    config: ConfigDict,
    labelled: Source,
    workdir: pathlib.Path,
    seed: int,
    mode: LatentMode,
    *,
    redrawn: bool = False,
    joined: str = "",
    unlabelled: Source | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> LatentAugmentation:
    """Trains a C-VITAE on some subjects' images and returns its deformations.

    Labels are not looked at. A training that was stopped is gone on with, a finished one is read.

    Args:
        config: of the segmenter's training.
        labelled: the subjects.
        workdir: folder of the training.
        seed: of the training.
        mode: how latent vectors are drawn; ``mixed`` becomes ``instance`` for a single subject.
        redrawn: shows decoded images of appearances near the subject's own, not the real ones.
        joined: preset whose maps are composed with the deformation and whose other stages follow.
        unlabelled: images of further training subjects, which the model sees too and whose
            perspective ``mixed`` takes. Never of test subjects: their shapes would leak.
        progress: where to show progress.
        **settings: further fields of `LatentAugmentation`: `temperature`, `blend`, `unwarp`.

    Raises:
        ValueError: the segmenter is trained on patches.
    """
    if tuple(config.patch_size):
        raise ValueError(
            f"the it-vae arms deform whole images, not patches of {tuple(config.patch_size)}: set "
            "--config.patch_size='()'"
        )
    with counted_seconds(workdir):
        seen: Source = labelled
        if unlabelled is not None:
            seen = joined_sources([ImagesOnly(labelled), unlabelled])
        made = _config(config, labelled, seed)
        system, variables = train_model(made, seen, workdir, "it_vae", progress=progress)
        encode = jax.jit(lambda image: system.encode(variables, image)[0])
        found = [encode(jnp.asarray(seen[i]["image"])[None]) for i in range(len(seen))]
        posterior = jax.tree.map(lambda *parts: jnp.concatenate(parts), *found)
    if len(seen) == 1 and mode == "mixed":
        mode = "instance"
    redraw = _appearance(system, variables) if redrawn else None
    policy = Augmentation(background=config.augment.get("background"))
    if joined:
        merged = tuple(config.data.get("target_of", ()))  # the policy sees labels after merging
        names = tuple(config.data.target_names) if merged else labelled.info.class_names
        policy = configured(
            config.augment, labelled.info.spacing, names, name=joined, target_of=merged
        )
    return system.augmentation(variables, posterior, mode, redraw=redraw, policy=policy, **settings)


def _appearance(system: ItVae, variables: PlayerVariables) -> Callable[[Array, Array], Array]:
    """Images in the common frame, of draws from ``q(z_A|x)``."""
    net, model = system.net, variables[PLAYER]

    def redraw(keys, image):
        draw = jax.vmap(lambda key: jax.random.normal(key, (net.appearance,)))
        noise = jnp.pad(draw(keys), [(0, 0), (net.perspective, 0)])
        found = net.apply(model, image, noise)
        return net.apply(model, found.z_appearance, len(image), method="decode_appearance")[0]

    return redraw


def _config(config: ConfigDict, labelled: Source, seed: int) -> ConfigDict:
    """The `population` configuration for images of the subjects' shape."""
    shape = tuple(labelled[0]["image"].shape[:-1])
    made = configuration.load_config("it_vae:cpu,data=population")
    with made.unlocked():
        steps = model_steps(config, _STEPS)
        made.seed, made.steps, made.batch_size = seed, steps, _BATCH
        made.criterion.warm_up = 3 * steps // 10
        made.data.shape = shape
        made.model.grid = max(4, min(8, min(shape) // _GRID_SPACING))
        made.parallel = config.parallel
    return made
