"""Does a distance of images order generators as the use of their images does?

Generators of known quality: one of the study, the same with faults, and checkpoints of a training.
Their images are measured in a network's features; segmenters are trained on them alone
(`usability.agreement`).
"""

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.stats

from jaxmedgen.data.case_groups import groups_of
from jaxmedgen.data.sources import Standardized
from jaxmedgen.experiments.study import models_path
from jaxmedgen.experiments.synthetic.experiment_readings import mean_dice
from jaxmedgen.experiments.synthetic.extractors import extractor_for
from jaxmedgen.experiments.synthetic.generator_sources import GeneratorFor, trained_on
from jaxmedgen.experiments.synthetic.interpretation import Findings
from jaxmedgen.experiments.synthetic.known_generators import Degraded
from jaxmedgen.experiments.synthetic.realism import ImageSet, set_measures
from jaxmedgen.experiments.synthetic.realism_run import image_set
from jaxmedgen.experiments.synthetic.setting import REAL, Setting
from jaxmedgen.experiments.synthetic.synthetic_set import build_set
from jaxmedgen.report.page import GroupTable
from jaxmedgen.report.results import AblationResults

FAULTS = ("blurred", "noisy", "permuted", "collapsed")
CHECKPOINTS = (25, 50, 100, 200, 400)
"""Steps of the five generators that are better the longer they were trained."""
TRAINED = tuple(f"checkpoint {steps}" for steps in CHECKPOINTS)

_SHOWN = ("fid", "kid", "recall")


def generators_of(setting: Setting) -> dict[str, GeneratorFor]:
    """The study's own generator, its faulty ones, and the checkpoints of a training."""
    found = {"sound": setting.generator}
    found |= {fault: faulty(setting.generator, fault) for fault in FAULTS}
    return found | {name: checkpoint(steps) for name, steps in zip(TRAINED, CHECKPOINTS)}


def faulty(generator: GeneratorFor, fault: str) -> GeneratorFor:
    """The same generators with a fault of `known_generators.Degraded`."""
    return lambda labelled, folder, seed: Degraded(generator(labelled, folder, seed), fault)


def checkpoint(steps: int) -> GeneratorFor:
    """The generator of `configs/cardiac_synthesis.py` after some steps, one for all seeds."""
    make = trained_on("cardiac_synthesis:cpu", steps=steps)
    return lambda labelled, folder, seed: make(labelled, folder.parent / f"checkpoint{steps}", 0)


def images_of(setting: Setting, workdir: pathlib.Path, count: int) -> dict[str, ImageSet]:
    """As many images of every generator, of the pool's subjects in their own style.

    Args:
        setting: of the study.
        workdir: of the study's first part, whose trained generators are taken.
        count: images of each.
    """
    folder = models_path(workdir, 0, 0).parent.parent / "pool" / "seed0"
    pattern, recipe = setting.config.experiment.vendor_pattern, setting.recipe("own")
    groups = groups_of(setting.pool.info.case_names, pattern) if pattern else None
    found = {}
    for name, make in generators_of(setting).items():
        made = build_set(setting.pool, make(setting.pool, folder, 0), recipe, count, groups=groups)
        subjects = {e["name"]: e["subject"] for e in made.manifest["images"]}
        found[name] = image_set(made.source, "", subjects)
    return found


def rank_correlation(
    fid: Mapping[str, float], dice: Mapping[str, float], names: Sequence[str]
) -> float:
    """Spearman's, of a low FID and a high Dice; NaN of fewer than two generators."""
    if len(names) < 2:
        return math.nan
    return float(scipy.stats.spearmanr([-fid[n] for n in names], [dice[n] for n in names])[0])


def measured(
    setting: Setting, results: AblationResults, workdir: pathlib.Path
) -> tuple[dict[str, Findings], GroupTable, tuple[str, ...]]:
    """What ``bin/ablate --experiment agreement`` adds to its report.

    The reference are the pool's images, the floor those of the test subjects; features are those of
    a classifier of their vendors, or random ones where fewer than two are known.

    Args:
        setting: of the study.
        results: of its runs.
        workdir: of all its parts.

    Returns:
        Findings by generator, a table of distances beside Dice, and the rank correlations as
        sentences.
    """
    pattern, size = setting.config.experiment.vendor_pattern, max(results.budgets)
    reference = image_set(Standardized(setting.pool), pattern)
    known = len(set(reference.groups)) > 1
    network = extractor_for(
        "classifier" if known else "random",
        Standardized(setting.pool),
        reference.groups or None,
        workdir / "extractor",
    )
    sets = {REAL: image_set(Standardized(setting.sources.test))}
    for name, images in images_of(setting, workdir / "part0", len(setting.pool)).items():
        sets[name] = standardized(images)
    found = set_measures(reference, sets, network, data_range=6.0, resamples=0)
    value = {(m.images, m.metric): m.value for m in found}
    dice = {name: mean_dice(results, name, size) for name in sets}
    names = ("FID", "KID", "recall", "Dice")
    rows = tuple((name, size, (*(value[name, key] for key in _SHOWN), dice[name])) for name in sets)
    title = f"Distances of images (real: of test subjects) in features of {network.name}, and use"
    real, floor = dice.pop(REAL), value[REAL, "fid"]
    findings = {
        name: Findings(
            fid_ratio=value[name, "fid"] / floor if floor > 0 else math.nan,
            recall=value[name, "recall"],
            gain_source=score - real,
        )
        for name, score in dice.items()
    }
    fid = {name: value[name, "fid"] for name in dice}
    texts = tuple(
        f"rank correlation of a low FID with Dice over {what}: "
        f"{rank_correlation(fid, dice, chosen):+.2f}"
        for what, chosen in (
            ("five checkpoints of a training", TRAINED),
            ("the generator and its faults", ("sound", *FAULTS)),
        )
    )
    return findings, GroupTable("agreement", names, rows, title), texts


def standardized(images: ImageSet) -> ImageSet:
    """Images of mean 0 and deviation 1 each, as segmenters see them."""
    axes = tuple(range(1, images.images.ndim))
    mean, deviation = (f(images.images, axis=axes, keepdims=True) for f in (np.mean, np.std))
    shown = (images.images - mean) / np.maximum(deviation, 1e-6)
    return dataclasses.replace(images, images=shown.astype(np.float32))
