"""How good a model with latent levels is: bounds, reconstruction, the shape-model measures.

Masks (data with foreground classes) are compared by Dice at 0.5, images by root mean squares.
"""

import functools
import pathlib
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from rich.console import Console

from jaxmedgen.data.sources import Source
from jaxmedgen.experiments.shape_generation import batch_of, draw, in_chunks, reconstruct
from jaxmedgen.metrics import shape_model
from jaxmedgen.metrics.latents import active_units
from jaxmedgen.report.pictures import Rgb, montage, save_png
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.latent import CanGenerate
from jaxmedgen.train.environment import write_json

SAMPLES = 400
"""Draws for the specificity, at most."""
DRAWS = 64
"""Of the posterior for the importance-weighted bound."""
_COLUMNS = 12
_SHOWN = 8
"""Largest divergences of a level that are printed; the file has all."""


def shape_scores(
    system: CanGenerate,
    variables: PlayerVariables,
    train: Source,
    test: Source,
    seed: int = 0,
    draws: int = DRAWS,
) -> dict[str, float]:
    """Scores of a trained model.

    Args:
        system: the model.
        variables: by player.
        train: training subjects, to which samples are compared.
        test: held-out subjects.
        seed: of the draws.
        draws: of the posterior for the bound.

    Returns:
        ``mse``, ``generalisation``, ``specificity``, ``dice`` (of masks), ``active_units`` a level
        (``active_units_LEVEL`` where there are several), and of models with bounds ``elbo``,
        ``iwae``, ``log_likelihood`` and ``kl`` in nats.
    """
    held, seen = (batch_of(part, range(len(part)), system) for part in (test, train))
    masks = test.info.num_classes > 1
    truth, back = np.asarray(system.target(held)), reconstruct(system, variables, held)
    pool = {name: x[: min(SAMPLES, len(train))] for name, x in seen.items()}
    made, known = draw(system, variables, pool, seed), np.asarray(system.target(seen))
    scores = {"mse": float(((back - truth) ** 2).mean())}
    distances = shape_model.dice_distances if masks else _rms
    if masks:
        truth, back, made, known = (x > 0.5 for x in (truth, back, made, known))
        scores["dice"] = float(shape_model.dice(back, truth).mean())
        # A sample without a voxel has no Dice with anything and is as far as can be.
        empty = ~made.reshape(len(made), -1).any(1)
        scores["empty_samples"] = float(empty.mean())
        known = known[known.reshape(len(known), -1).any(1)]
        held_out = truth.reshape(len(truth), -1).any(1)
        truth, back = truth[held_out], back[held_out]
    scores["generalisation"] = float(shape_model.generalisation(back, truth, distances).mean())
    scores["specificity"] = float(shape_model.specificity(made, known, distances).mean())
    encode = jax.jit(lambda v, b: {k: q[0] for k, q in system.encode_levels(v, b).items()})
    means = in_chunks(functools.partial(encode, variables), held)
    for name, mean in means.items():
        key = "active_units" if len(means) == 1 else f"active_units_{name}"
        scores[key] = float(active_units(mean))
    return scores | bound_scores(system, variables, held, seed, draws)


def bound_scores(
    system: Any, variables: PlayerVariables, batch: Any, seed: int, draws: int
) -> dict[str, float]:
    """Means of what ``system.bounds`` gives, or nothing where it has none."""
    if not hasattr(system, "bounds") or not getattr(system, "stochastic", True):
        return {}
    keys = jax.random.split(jax.random.key(seed), len(next(iter(batch.values()))))
    try:
        bounds = jax.jit(lambda v, b, k: system.bounds(v, k, b, draws)._asdict())
        found = in_chunks(functools.partial(bounds, variables), batch, keys)
    except ValueError:  # the criterion is no likelihood
        return {}
    return {name: float(x.reshape(len(x), -1).sum(1).mean()) for name, x in found.items()}


def picture(system: CanGenerate, variables: PlayerVariables, test: Source, seed: int = 0) -> Rgb:
    """Rows: held-out subjects, their reconstructions, draws of the prior."""
    batch = batch_of(test, range(min(_COLUMNS, len(test))))
    rows = [
        np.asarray(system.target(batch)),
        reconstruct(system, variables, batch),
        draw(system, variables, batch, seed),
    ]
    return image_rows(rows)


def image_rows(rows: list[Float[np.ndarray, " b *s c"]], scale: int = 3) -> Rgb:
    """Rows of images in [0, 1], first channel, volumes by their middle slice."""
    pictures = []
    for row in rows:
        for image in row:
            plane = np.clip(image[..., 0], 0, 1)
            while plane.ndim > 2:
                plane = plane[:, :, plane.shape[2] // 2] if plane.ndim == 3 else plane[0]
            grey = np.round(plane * 255).astype(np.uint8)
            grey = np.repeat(np.repeat(grey, scale, 0), scale, 1)
            pictures.append(np.repeat(grey[..., None], 3, -1))
    return montage(pictures, columns=len(rows[0]), gap=scale)


def evaluate_shapes(
    system: CanGenerate,
    variables: PlayerVariables,
    train: Source,
    test: Source,
    workdir: pathlib.Path,
    console: Console,
    step: int,
) -> dict[str, float]:
    """What ``bin/evaluate`` does: ``evaluation.json``, a picture and a table."""
    scores = shape_scores(system, variables, train, test)
    shares = kl_of_dimensions(system, variables, test)
    found = {"step": step, "subjects": len(test), **scores, "kl_of_dimensions": shares}
    write_json(workdir / "evaluation.json", found)
    save_png(workdir / "reconstructions.png", picture(system, variables, test))
    for name, value in scores.items():
        console.print(f"{name:18} {value:10.4f}")
    for name, values in shares.items():
        largest = " ".join(f"{value:.2f}" for value in sorted(values, reverse=True)[:_SHOWN])
        more = " ..." if len(values) > _SHOWN else ""
        console.print(f"{'nats of ' + name:18} {largest}{more} ({len(values)} dimensions)")
    return scores


def kl_of_dimensions(
    system: CanGenerate, variables: PlayerVariables, test: Source
) -> dict[str, list[float]]:
    """KL of each latent dimension from its prior in nats, mean over subjects, by level.

    Empty for models without posteriors and for those that do not give it.
    """
    if not hasattr(system, "divergences") or not getattr(system, "stochastic", True):
        return {}
    held = batch_of(test, range(len(test)))
    found = in_chunks(functools.partial(jax.jit(system.divergences), variables), held)
    return {name: kl.mean(0).tolist() for name, kl in found.items()}


def _rms(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    first, second = (x.reshape(len(x), -1).astype(np.float64) for x in (a, b))
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1) - 2 * first @ second.T
    return np.sqrt(np.maximum(squares, 0) / first.shape[1])
