"""Claims (v) and (vi): hearts between two hearts, rare ones, and what beta does."""

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np

from jaxmedgen.experiments.label_synthesis import target_attribute
from jaxmedgen.experiments.reproductions.hearts import slices
from jaxmedgen.experiments.reproductions.hearts.models import Model
from jaxmedgen.metrics.cardiac import area_jumps, clinical_indices, neighbour_dice
from jaxmedgen.metrics.latents import active_units
from jaxmedgen.metrics.plausibility import plausible_share
from jaxmedgen.ops.latent_paths import interpolate_latents

PAIRS = 40
PATHS, STEPS = 6, 20
TARGETS, PERCENTILE = 4, 99.0


def between_share(model: Model, seed: int, pairs: int = PAIRS) -> float:
    """Share of pairs whose left ventricle at t = 1/2 has a volume between those of both ends.

    A volume may leave the range by 1 % of the larger end, which is what a few pixels make.
    """
    rng = np.random.default_rng(seed)
    population, hits = model.population, 0
    for _ in range(pairs):
        a, b = (int(i) for i in rng.choice(len(population.stacks), 2, replace=False))
        volumes = []
        for t, ends in ((0.0, (a,)), (1.0, (b,)), (0.5, (a, b))):
            z = interpolate_latents(population.latents[a], population.latents[b], t)
            label = model.space.stack(z)
            volumes.append(clinical_indices(label, population.extent(*ends)).lv_volume)
        low, high = sorted(volumes[:2])
        hits += low - 0.01 * high <= volumes[2] <= high * 1.01
    return hits / pairs


def path_step(model: Model, seed: int) -> float:
    """Least Dice of consecutive decoded middle slices along paths of 20 steps, mean over paths."""
    rng = np.random.default_rng(seed)
    latents, found = model.population.latents, []
    for _ in range(PATHS):
        a, b = rng.choice(len(latents), 2, replace=False)
        middle = latents.shape[1] // 2
        path = [
            interpolate_latents(latents[a], latents[b], t)[middle] for t in np.linspace(0, 1, STEPS)
        ]
        label = model.space.decode(np.stack(path))
        pairs = itertools.pairwise(label)
        found.append(min(float(np.nanmean(slices.class_dice(x, y))) for x, y in pairs))
    return float(np.mean(found))


def target_error(model: Model, attribute: str = "lv_volume", count: int = TARGETS) -> float:
    """How far subjects sent to a rare value of an attribute miss it, in its deviations."""
    values = np.asarray([getattr(i, attribute) for i in model.population.indices])
    wanted = values.mean() + 2.326347874 * values.std(ddof=1)  # the normal 99th percentile
    misses = []
    for number in range(count):
        _, reached = target_attribute(model.population, number, attribute, PERCENTILE)
        misses.append(abs(reached - wanted) / values.std(ddof=1))
    return float(np.mean(misses))


@dataclasses.dataclass(frozen=True)
class Summary:
    """A line of the table of models.

    Attributes:
        dice: of reconstructed test slices, mean over slices and classes.
        class_dice: the same of each class alone, by `slices.NAMES`.
        held_out: Dice of held-out slices.
        kl: nats.
        units: active latent dimensions.
        roughness: of the training subjects' paths, in deviations.
        path: `path_step`, NaN for models of volumes.
        neighbours: Dice of consecutive slices of equalised test subjects.
        area_jumps: mean change of a class's area between their consecutive slices, mm^2.
        plausible: share of their slices that are plausible.
        seconds: of the training.
    """

    dice: float
    class_dice: Mapping[str, float]
    held_out: float
    kl: float
    units: int
    roughness: float
    path: float
    neighbours: float
    area_jumps: float
    plausible: float
    seconds: float


def summarise(model: Model, seed: int = 0) -> Summary:
    """What a model keeps and how smooth it is."""
    made = [model.space.stack(model.space.embed(stack)) for stack in model.test]
    latents = model.population.latents
    dice = slices.reconstruction_dice(model)
    return Summary(
        dice=float(np.nanmean(dice)),
        class_dice=dict(zip(slices.NAMES, np.nanmean(dice, axis=0).tolist())),
        held_out=slices.dice_of_model(model),
        kl=model.kl,
        units=active_units(latents.reshape(-1, latents.shape[-1])),
        roughness=slices.mean_roughness(model),
        path=float("nan") if model.space.volumes else path_step(model, seed),
        neighbours=float(np.mean([neighbour_dice(label) for label in made])),
        area_jumps=float(np.mean([area_jumps(x, s.spacing) for x, s in zip(made, model.test)])),
        plausible=float(np.mean([plausible_share(label) for label in made])),
        seconds=model.seconds,
    )
