"""Claims (iii) and (iv): pseudo-subjects whose slices go together, and hearts that fall ill."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxmedgen.experiments.label_files import stack_row
from jaxmedgen.experiments.label_synthesis import HEALTHY
from jaxmedgen.experiments.reproductions.hearts.models import Model
from jaxmedgen.metrics.cardiac import INDICES, area_jumps, clinical_indices, neighbour_dice
from jaxmedgen.metrics.plausibility import plausible_share
from jaxmedgen.ops.correlated_normal import (
    CORRELATE,
    LatentStatistics,
    draw_latents,
    latent_statistics,
)
from jaxmedgen.ops.latent_paths import interpolate_latents
from jaxmedgen.report.pictures import montage

DISEASES: Mapping[str, str] = {"HCM": "wall_thickness", "DCM": "lv_volume", "RV": "rv_volume"}
"""Diseases and the index that each must raise."""
SHIFTED = ("lv_volume", "rv_volume", "wall_thickness")
DRAWS = 12
MANY = 2000
STEPS = 11
SUBJECTS = 8


@dataclasses.dataclass(frozen=True)
class Coherence:
    """How slices of pseudo-subjects fit on each other, means over the diseases.

    Attributes:
        dice: Dice of consecutive slices, by way of drawing.
        plausible: share of plausible slices, likewise.
        mean_error: of ``moments``: change of an entry's mean in its deviations, mean over entries.
        deviation_error: of ``moments``: relative change of an entry's deviation, likewise.
        largest_error: the larger of both for the worst entry.
        raw_mean_error: of ``raw``, as `mean_error`.
        real: Dice of consecutive slices of equalised training subjects.
        jumps: mean change of a class's area between consecutive slices in mm^2, by way of drawing.
        real_jumps: the same of equalised training subjects.
    """

    dice: Mapping[str, float]
    plausible: Mapping[str, float]
    mean_error: float
    deviation_error: float
    largest_error: float
    raw_mean_error: float
    real: float
    jumps: Mapping[str, float]
    real_jumps: float


def disease_statistics(model: Model, disease: str) -> LatentStatistics:
    """Of the training subjects of a disease, slices correlated as in healthy ones."""
    population = model.population
    return latent_statistics(
        population.latents[population.members(disease)],
        population.latents[population.members(HEALTHY)],
    )


def coherence(model: Model, seed: int, draws: int = DRAWS, many: int = MANY) -> Coherence:
    """Decodes some pseudo-subjects of every disease and way, and checks moments on many."""
    rng = np.random.default_rng(seed)
    dice = {way: [] for way in CORRELATE}
    plausible = {way: [] for way in CORRELATE}
    jumps = {way: [] for way in CORRELATE}
    errors, raw, real, real_jumps = [], [], [], []
    spacing = model.train[0].spacing  # pixels are the same for all, and areas need no more
    for disease in DISEASES:
        statistics = disease_statistics(model, disease)
        for way in CORRELATE:
            for z in draw_latents(rng, statistics, draws, way):
                label = model.space.stack(z)
                dice[way].append(neighbour_dice(label))
                plausible[way].append(plausible_share(label))
                jumps[way].append(area_jumps(label, spacing))
        errors.append(_moment_errors(statistics, draw_latents(rng, statistics, many)))
        raw.append(_moment_errors(statistics, draw_latents(rng, statistics, many, "raw"))[0].mean())
        for number in model.population.members(disease)[:draws]:
            label = model.space.stack(model.population.latents[number])
            real.append(neighbour_dice(label))
            real_jumps.append(area_jumps(label, spacing))
    means, deviations = (np.concatenate([e[k].ravel() for e in errors]) for k in (0, 1))
    return Coherence(
        {way: float(np.nanmean(values)) for way, values in dice.items()},
        {way: float(np.mean(values)) for way, values in plausible.items()},
        float(means.mean()),
        float(deviations.mean()),
        float(max(means.max(), deviations.max())),
        float(np.mean(raw)),
        float(np.mean(real)),
        {way: float(np.mean(values)) for way, values in jumps.items()},
        float(np.mean(real_jumps)),
    )


def _moment_errors(wanted: LatentStatistics, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    spread = np.maximum(wanted.deviation, 1e-9)
    mean = np.abs(drawn.mean(0) - wanted.mean) / spread
    return mean, np.abs(drawn.std(0) / spread - 1)


@dataclasses.dataclass(frozen=True)
class Shift:
    """What happens to clinical indices on the way from healthy to a disease.

    Attributes:
        spearman: rank correlation of the on-target index with t.
        change: of the indices in deviations of the healthy training subjects, by name.
        real_change: the same between healthy and diseased training subjects.
        probability: of the disease by a classifier of indices, at every step from t = 0 to 1.
        probability_spearman: rank correlation of the probability with t.
    """

    spearman: float
    change: Mapping[str, float]
    real_change: Mapping[str, float]
    probability: tuple[float, ...]
    probability_spearman: float


def shift(
    model: Model, disease: str, seed: int, count: int = SUBJECTS
) -> tuple[Shift, dict[str, np.ndarray]]:
    """Some healthy training subjects on their way to a pseudo-subject each, and the first's way."""
    rng = np.random.default_rng(seed)
    population = model.population
    healthy = population.members(HEALTHY)
    starts = rng.permutation(healthy)[:count]
    ends = draw_latents(rng, disease_statistics(model, disease), len(starts))
    found, shown = [], []
    for place, (number, end) in enumerate(zip(starts, ends)):
        spacing, row = population.extent(int(number)), []
        for t in np.linspace(0, 1, STEPS):
            z = interpolate_latents(population.latents[number], end, float(t))
            label = model.space.stack(z)
            row.append(clinical_indices(label, spacing).vector())
            if place == 0:
                shown.append(label)
        found.append(row)
    curve = np.nanmean(found, axis=0)
    indices = np.stack([i.vector() for i in population.indices])
    spread = indices[healthy].std(0, ddof=1)
    sick = indices[population.members(disease)].mean(0) - indices[healthy].mean(0)
    target = INDICES.index(DISEASES[disease])
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    groups = np.asarray([stack.group for stack in population.stacks])
    classifier.fit(indices, groups)
    column = list(classifier[-1].classes_).index(disease)
    chances = classifier.predict_proba(np.nan_to_num(found).reshape(-1, len(INDICES)))[:, column]
    chance = chances.reshape(len(found), STEPS).mean(0)
    change = (curve[-1] - curve[0]) / spread
    outcome = Shift(
        float(spearmanr(np.arange(STEPS), curve[:, target]).statistic),
        {name: float(change[INDICES.index(name)]) for name in SHIFTED},
        {name: float((sick / spread)[INDICES.index(name)]) for name in SHIFTED},
        tuple(chance.tolist()),
        float(spearmanr(np.arange(STEPS), chance).statistic),
    )
    steps = shown[:: (STEPS - 1) // 5]
    return outcome, {f"path_{disease}": montage([stack_row(x) for x in steps], columns=1)}


def examples(model: Model) -> tuple[None, dict[str, np.ndarray]]:
    """Pictures: equalised subjects, hearts between two, correlated and uncorrelated draws."""
    population, space = model.population, model.space
    a, b = population.members("NOR")[0], population.members("DCM")[0]
    way = [
        interpolate_latents(population.latents[a], population.latents[b], t)
        for t in np.linspace(0, 1, 6)
    ]
    statistics = disease_statistics(model, "HCM")
    rng = np.random.default_rng(0)
    drawn = [draw_latents(rng, statistics, 1, kind)[0] for kind in ("moments", "raw", "none")]
    equalised = [row for k in range(3) for row in (model.train[k].label, space.stack(
        population.latents[k]))]  # fmt: skip
    return None, {
        "equalised": montage([stack_row(label, 12) for label in equalised], columns=1),
        "between": montage([stack_row(space.stack(z)) for z in way], columns=1),
        "correlation": montage([stack_row(space.stack(z), 12) for z in drawn], columns=1),
    }
