"""Classifiers of vessel junctions from 30 images a class and what generative models add."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxmedgen.configuration import load_config, set_value
from jaxmedgen.experiments.classification import (
    LabelledImages,
    Scores,
    Trials,
    labelled_images,
    score_sets,
)
from jaxmedgen.experiments.reproductions.record import Options
from jaxmedgen.experiments.reproductions.trained_model import TrainedModel, trained_model
from jaxmedgen.ops.riemannian_metric import inverse_metric, nearest_centroid

SAMPLES = 200
"""Synthetic images a class."""

MAIN = Trials(features=(256,), runs=3)
SETS = {
    "VAE, prior": ("vae", "normal"),
    "RHVAE, prior": ("rhvae", "normal"),
    "RHVAE, manifold": ("rhvae", "manifold"),
}
"""What the claims are about: arm and prior, all seeds."""

OTHERS = {
    "RHVAE, random walk": ("rhvae", "walk"),
    "RHVAE, wrapped normal": ("rhvae", "wrapped"),
    "RHVAE exact bound, manifold": ("exact", "manifold"),
    "HVAE, prior": ("hvae", "normal"),
    "beta-VAE (4), prior": ("beta", "normal"),
    "IWAE (10), prior": ("iwae", "normal"),
    "VAE, normalising flow": ("flow", "density"),
}
"""For comparison: the first seed, one classifier each."""
RAW = "raw"
CLASSIC = "raw, random affine maps"


def images(model: TrainedModel, prior: str, count: int, seed: int) -> np.ndarray:
    """Images ``[kinds, count, *s, c]`` of latents drawn from a prior."""
    keys = jax.random.split(jax.random.key(seed + 100), (model.system.kinds, count))
    made = jax.jit(lambda v, k: model.system.decode(v, model.system.draw(v, k, prior)))
    return np.asarray(made(model.variables, keys))


def configuration(options: Options, arm: str, seed: int, **settings: str) -> ConfigDict:
    """Of a training; overrides of the command line come last."""
    config = load_config(f"rhvae:cpu,arm={arm}")
    with config.unlocked():
        config.seed = config.data.seed = seed
        config.checkpoint_every = config.steps
    for key, value in (settings | dict(options.overrides)).items():
        set_value(config, key.replace("__", "."), value)
    return config


def seed_scores(
    options: Options, seed: int, others: bool
) -> tuple[dict[str, Scores], dict[str, TrainedModel]]:
    """Scores of every set for one seed, and the models by arm.

    Sets are named by the model; ``raw + NAME`` holds the training images, too.

    Args:
        options: of the command.
        seed: of data, trainings and draws.
        others: whether the models of `OTHERS` are trained and scored.
    """
    chosen = SETS | (OTHERS if others else {})
    models = {
        arm: trained_model(options, f"{arm}/seed{seed}", configuration(options, arm, seed))
        for arm in dict.fromkeys(arm for arm, _ in chosen.values())
    }
    sources = models["vae"].sources
    raw, test = labelled_images(sources.train), labelled_images(sources.test)
    synthetic = {
        name: labelled(images(models[arm], prior, SAMPLES, seed))
        for name, (arm, prior) in chosen.items()
    }
    trials = dataclasses.replace(MAIN, seed=seed)
    main = {RAW: raw} | {name: synthetic[name] for name in SETS}
    main |= {f"raw + {name}": raw + synthetic[name] for name in SETS}
    scores = score_sets(trials, main, test)
    if others:
        once = dataclasses.replace(trials, runs=1)
        scores |= score_sets(once, {name: synthetic[name] for name in OTHERS}, test)
        moved = dataclasses.replace(once, augmentation="affine")
        scores |= score_sets(moved, {CLASSIC: raw}, test)
    return scores, models


def geometry(model: TrainedModel, seed: int) -> dict[str, float]:
    """Eigenvalues of G^-1 at the centroids, and where chains end."""
    keys = jax.random.split(jax.random.key(seed), (model.system.kinds, SAMPLES))

    @jax.jit
    def look(variables, keys):
        metric = model.system.metric(variables)
        there = jax.vmap(lambda m: inverse_metric(m, m.centroids))(metric)
        draws = model.system.draw(variables, keys, "manifold")
        return there, metric.centroids, draws, jax.vmap(nearest_centroid)(metric, draws)

    there, centroids, draws, distance = map(np.asarray, look(model.variables, keys))
    values = np.linalg.eigvalsh(there)
    return {
        "least eigenvalue": float(values.min()),
        "median eigenvalue": float(np.median(values)),
        "largest eigenvalue": float(values.max()),
        "mean length of c": float(np.linalg.norm(centroids, axis=-1).mean()),
        "mean length of draws": float(np.linalg.norm(draws, axis=-1).mean()),
        "distance of draws to the nearest c, T": float(distance.mean())
        / float(model.system.temperature),
    }


def labelled(images: np.ndarray) -> LabelledImages:
    """Images ``[kinds, count, *s, c]`` with their kinds."""
    kinds, count = images.shape[:2]
    return LabelledImages(
        images.reshape(-1, *images.shape[2:]).astype(np.float32),
        np.repeat(np.arange(kinds, dtype=np.int32), count),
    )


def mean_accuracy(found: Mapping[str, Scores], name: str) -> float:
    """Over the runs of a seed, percent."""
    return float(np.mean(found[name].accuracy))
