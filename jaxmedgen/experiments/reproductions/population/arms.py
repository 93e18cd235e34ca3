"""The study: does PADDIT help a segmenter, and more than deformations of no population?"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from jaxmedgen.experiments.reproductions.record import Claim
from jaxmedgen.metrics.statistics import Interval, paired_difference
from jaxmedgen.report.pictures import montage, three_planes
from jaxmedgen.report.results import AblationResults, score_matrix

CLASSES = ("lesion", "ventricle")
LEAST = 0.05
LEAST_SEEDS = 4


def gain(results: AblationResults, arm: str, reference: str, budget: int, name: str) -> Interval:
    """Dice of one class of an arm less that of another, paired by case, with its interval."""
    scores = (score_matrix(results, a, budget, class_name=name) for a in (arm, reference))
    return paired_difference(*scores).interval


def claims(results: AblationResults, budget: int) -> tuple[Claim, ...]:
    """PADDIT > generic >= none for lesions and ventricles."""
    found = []
    for name in CLASSES:
        between = gain(results, "paddit", "none", budget, name)
        found.append(
            Claim(
                f"{name}: PADDIT over none",
                f"gain >= {LEAST:.2f} Dice, 95 % interval above 0",
                between.mean,
                (between.low, between.high),
                bool(between.mean >= LEAST and between.low > 0),
            )
        )
        better = seeds_better(results, "paddit", "paddit-generic", budget, name)
        found.append(
            Claim(
                f"{name}: part of {better.size} seeds in which PADDIT beats the generic "
                "deformation of its size",
                f">= {LEAST_SEEDS / 5:.1f}",
                float(better.mean()),
                None,
                bool(better.mean() >= LEAST_SEEDS / 5),
            )
        )
        between = gain(results, "paddit-generic", "none", budget, name)
        found.append(
            Claim(
                f"{name}: generic deformation over none",
                "no loss",
                between.mean,
                (between.low, between.high),
                bool(between.mean >= 0),
            )
        )
    return tuple(found)


def seeds_better(
    results: AblationResults, arm: str, other: str, budget: int, name: str
) -> Bool[np.ndarray, " seeds"]:
    """Whether the mean Dice of one class is higher with `arm`, a seed each."""
    a, b = (np.nanmean(score_matrix(results, x, budget, class_name=name), 1) for x in (arm, other))
    return a > b


def table(results: AblationResults, budget: int) -> str:
    """Scores of every arm, mean over cases and seeds, and what its model cost."""
    lines = ["| arm | seeds | " + " | ".join(f"Dice {name}" for name in CLASSES)]
    lines[0] += " | against none | lesion F1 | lesion recall | HD95 lesion (mm) | volume error "
    lines[0] += "of lesions | model (s) |"
    lines += ["|---" * (8 + len(CLASSES)) + "|"]
    for arm in results.arms:
        runs = results.select(arm, budget)
        cells = [
            f"{np.nanmean(score_matrix(results, arm, budget, class_name=n)):.3f}" for n in CLASSES
        ]
        against = ""
        if arm != results.reference_arm:
            gains = (gain(results, arm, "none", budget, n).mean for n in CLASSES)
            against = ", ".join(f"{g:+.3f}" for g in gains)
        lesion = {
            metric: np.nanmean(score_matrix(results, arm, budget, metric, "lesion"))
            for metric in ("lesion_f1", "lesion_recall", "hd95")
        }
        sizes = [
            score_matrix(results, arm, budget, metric, "lesion")
            for metric in ("prediction_size", "reference_size")
        ]
        volume = np.nanmean(np.abs(sizes[0] - sizes[1]) / sizes[1])
        cost = np.mean([run.augmenter_seconds for run in runs])
        cells += [against, *(f"{x:.3f}" for x in list(lesion.values())[:2])]
        cells += [f"{lesion['hd95']:.1f}", f"{100 * volume:.0f} %", f"{cost:.0f}"]
        lines.append(f"| {arm} | {len(runs)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def samples(results: AblationResults, arms: Sequence[str], shown: int = 4) -> np.ndarray:
    """Augmented training images with their labels, a row an arm."""
    pictures = [
        three_planes(image, label, height=120)
        for arm in arms
        for image, label in results.samples[arm][:shown]
    ]
    return montage(pictures, columns=shown)
