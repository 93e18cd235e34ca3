"""``bin/reproduce augmentations``: transforms alone, families and policies, under known shifts.

Sheet of the augmentations, "low-data effect": six training images with lesions that vary little,
tests that vary in pose, in gamma and bias field, or in both. Claims: a generic policy gains at
least 0.08 Dice over none; a family gains at least 0.03 on its matching shift and changes less than
0.03 on the other; mixing loses no more than 0.01. Volumes are `augmentations_volumes`.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from jaxmedgen.experiments.reproductions import study
from jaxmedgen.experiments.reproductions.record import Claim, Options, Reproduction
from jaxmedgen.metrics.statistics import PairedDifference, paired_difference
from jaxmedgen.report.page import fit_table
from jaxmedgen.report.results import AblationResults, score_matrix

ALONE = (
    "affine",
    "elastic",
    "elastic_noise",
    "diffeo",
    "geodesic",
    "gamma",
    "bias",
    "companions",
    "mixup",
    "manifold_mixup",
    "cutout",
    "cutmix",
    "carvemix",
    "moex_in",
    "moex_pono",
)
FAMILIES = ("deformation", "intensification", "corruption", "interpolation")
POLICIES = ("nnunet3d", "nnunet3d+moex_pono")
ARMS = ("none", *ALONE, *FAMILIES, *POLICIES)
GROUPS = ("pose", "intensity", "both")
DATASET = "images with lesions; tests vary in pose, in gamma and bias field, or in both"
MATCHING = {"deformation": "pose", "intensification": "intensity"}
MIXING = ("mixup", "cutmix", "moex_in", "moex_pono")
BUDGET = 6
SEEDS = 5


def reproduce(options: Options) -> Reproduction:
    """Runs the study (or reads its finished runs) and checks the claims group by group."""
    return of_arms(options, ARMS, SEEDS)


def of_arms(
    options: Options, arms: tuple[str, ...], seeds: int, overrides: Mapping[str, str] | None = None
) -> Reproduction:
    """A study of some arms, what is claimed of them, and its tables.

    Args:
        options: of the reproduction; its overrides go before those here.
        arms: the first is the reference; those of the claims are among them.
        seeds: how many.
        overrides: of the configuration.
    """
    given = {"measure_fit": "True", **(overrides or {}), **options.overrides}
    results, summary = study.run(
        dataclasses.replace(options, overrides=given),
        config_name="augmentations",
        arms=arms,
        budgets=(BUDGET,),
        seeds=seeds,
        dataset=DATASET,
    )
    found = study.reproduction("unet", results, summary, _claims(results))
    table = f"{_table(results)}\n\nAll tests:\n\n{found.table}"
    return dataclasses.replace(found, table=table, notes=(*_mismatch(results), *found.notes))


def _claims(results: AblationResults) -> tuple[Claim, ...]:
    claims = [
        _at_least(results, policy, "both", 0.08, f"{policy} over none, both shifts")
        for policy in POLICIES
    ]
    for family, group in MATCHING.items():
        other = next(g for g in MATCHING.values() if g != group)
        claims += [
            _at_least(results, family, group, 0.03, f"{family} over none, {group} shift"),
            _unchanged(results, family, other, f"{family} against none, {other} shift"),
        ]
    claims += [
        _at_least(results, arm, "both", -0.01, f"{arm} against none, both shifts") for arm in MIXING
    ]
    return tuple(claims)


def _mismatch(results: AblationResults) -> tuple[str, ...]:
    """What families and single transforms gain on the shift that they do not match."""
    gains = {
        arm: difference(results, arm, group).interval.mean
        for arms, group in ((("gamma", "bias"), "pose"), (("affine", "elastic"), "intensity"))
        for arm in arms
        if arm in results.arms
    }
    if not gains:
        return ()
    shown = ", ".join(f"{arm} {gain:+.3f}" for arm, gain in gains.items())
    return (
        "The sheet expects nothing of a family on the shift that it does not match. Single "
        "transforms tell where that is true: gains of gamma and bias on the pose shift, of affine "
        f"and elastic maps on the intensity shift: {shown}. With {BUDGET} training images a "
        "network learns lesions by heart, and what makes every look at them another helps on any "
        "shift; intensity alone does not.",
    )


def difference(results: AblationResults, arm: str, group: str) -> PairedDifference:
    """Dice of an arm less that of the reference, paired by the cases of one group."""
    chosen = [case.startswith(f"{group}-") for case in results.cases]
    arm_scores, reference = (
        score_matrix(results, name, BUDGET)[:, chosen] for name in (arm, results.reference_arm)
    )
    return paired_difference(arm_scores, reference)


def _at_least(results, arm, group, least, name) -> Claim:
    between = difference(results, arm, group).interval
    # A gain must be certain to be one; a loss that is allowed need only not be exceeded.
    holds = between.mean >= least and (least < 0 or between.low > 0)
    expected = f"gain >= {least:.2f} Dice" + (", 95 % interval above 0" if least > 0 else "")
    return Claim(name, expected, between.mean, (between.low, between.high), bool(holds))


def _unchanged(results, arm, group, name) -> Claim:
    between = difference(results, arm, group).interval
    interval = (between.low, between.high)
    return Claim(
        name, "gain within 0.03 Dice of 0", between.mean, interval, abs(between.mean) < 0.03
    )


def _table(results: AblationResults) -> str:
    """Mean Dice a group and the difference to none; training less test Dice, calibration."""
    lines = ["| arm | " + " | ".join(f"{g} | against none" for g in GROUPS) + " | gap | ECE |"]
    lines += ["|---|" + "---|---|" * len(GROUPS) + "---|---|"]
    fits = {row["arm"]: row for row in fit_table(results)}
    for arm in results.arms:
        cells = []
        for group in GROUPS:
            chosen = [case.startswith(f"{group}-") for case in results.cases]
            cells.append(f"{np.nanmean(score_matrix(results, arm, BUDGET)[:, chosen]):.3f}")
            if arm == results.reference_arm:
                cells.append("")
                continue
            between = difference(results, arm, group).interval
            cells.append(f"{between.mean:+.3f} [{between.low:+.3f}, {between.high:+.3f}]")
        fit = fits.get(arm)
        cells += ["", ""] if fit is None else [f"{fit['gap']:.3f}", f"{fit['ece']:.3f}"]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
