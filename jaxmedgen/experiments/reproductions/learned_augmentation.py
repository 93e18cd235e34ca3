"""``bin/reproduce learned_augmentation``: every learned augmentation in one study, with its price.

The question that the library is for: with six labelled images, which generative model of these six
helps a segmenter, by how much, and for how many seconds? The images are those of `augmentations`:
lesions that vary little in training, and tests that vary in pose, in gamma and bias field, or in
both. Every model is trained on the labelled images of its run alone. Arms with a preset behind a +
tell whether a learned model adds anything to a policy that costs nothing; `light` is the policy
that arms of added images have without one.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from jaxmedgen.experiments.reproductions import study
from jaxmedgen.experiments.reproductions.augmentations import DATASET, GROUPS
from jaxmedgen.experiments.reproductions.record import Claim, Options, Reproduction
from jaxmedgen.metrics.statistics import PairedDifference, paired_difference
from jaxmedgen.report.figures import budget_picture
from jaxmedgen.report.results import AblationResults, score_matrix

POLICY = "nnunet3d"
DEFORMATIONS = ("itvae-naive", "itvae-instance", "itvae-mixed", "paddit", "paddit-map",
                "paddit-geodesic")  # fmt: skip
GENERATORS = ("labelvae", "rhvae", "genseg", "spade", "spade+labelvae")
IMAGES = ("labelvae", "rhvae", "spade", "spade+labelvae")
"""Arms that add images, and train on real and added ones with the preset `PLAIN`."""
PLAIN = "light"
JOINED = tuple(f"{arm}+{POLICY}" for arm in ("itvae-mixed", "paddit", *IMAGES))
ARMS = ("none", PLAIN, "deformation", POLICY, *DEFORMATIONS, *GENERATORS, *JOINED)
LEARNED = (*DEFORMATIONS, *GENERATORS)
BUDGET = 6
SEEDS = 3
NOTES = (
    "No published figure: no paper compares these models on one task. Claims are questions; the "
    "arm that is best is chosen by the same test images that it is then judged by, so that its "
    "gain is a little too large.",
    "Seconds are those of one processor core, means over seeds; models have step counts that suit "
    "it (`model_steps`). Arms that share a model (the modes of IT-VAE, the label VAE, SPADE) count "
    "it each.",
)
NO_HELP = (
    "Why added images do not help here: a model of six images knows no pose and no contrast "
    "beyond theirs, and tests differ in just these; a synthetic sample takes the place of a real "
    "one within the same steps. With one real image in five samples in place of every second one "
    "(2026-11-30, the same models and seeds) joined arms lost 1.4 to 3 times as much (labelvae"
    " -0.068, spade -0.064, rhvae -0.210 over nnunet3d) and rhvae -0.168 over light; labelvae and"
    " spade lost about the same over light (-0.008, -0.016). These arms now show as many real as "
    "synthetic images."
)


def reproduce(options: Options) -> Reproduction:
    """Runs the study (or reads its finished runs) and asks the questions."""
    found = asked(options, ARMS, questions, NOTES)
    return dataclasses.replace(found, notes=(*found.notes, *explained(found.claims, options)))


def explained(claims: Sequence[Claim], options: Options) -> tuple[str, ...]:
    """Why added images do not help: where none does, with the settings of this file."""
    names = [f"{arm} over {PLAIN} alone" for arm in IMAGES]
    names += [f"{arm}+{POLICY} over {POLICY} alone" for arm in IMAGES]
    helps = any(claim.holds for claim in claims if claim.name in names)
    return () if helps or options.overrides else (NO_HELP,)


def asked(
    options: Options,
    arms: tuple[str, ...],
    questions: Callable[[AblationResults], tuple[Claim, ...]],
    notes: tuple[str, ...],
) -> Reproduction:
    """A study of some arms on the lesions of `augmentations`, what is asked of it, and its tables.

    Args:
        options: of the reproduction.
        arms: the first is the reference.
        questions: read off the results.
        notes: that follow the answer.
    """
    results, summary = study.run(
        options,
        config_name="augmentations",
        arms=arms,
        budgets=(BUDGET,),
        seeds=SEEDS,
        dataset=DATASET,
    )
    found = study.reproduction("augmentations", results, summary, questions(results), notes)
    table = f"{arm_table(results)}\n\nAll tests:\n\n{found.table}"
    return dataclasses.replace(
        found, table=table, pictures={"arms": budget_picture(results, summary)}
    )


def questions(results: AblationResults) -> tuple[Claim, ...]:
    """What learned models gain over nothing, over a policy, and on top of it."""
    gains = {arm: gain(results, arm, "none") for arm in LEARNED}
    best = max(gains, key=lambda arm: gains[arm].interval.mean)
    helpful = [arm for arm, gain in gains.items() if gain.interval.low > 0]
    return (
        positive(f"best learned arm ({best}) over none", gains[best]),
        Claim(
            f"share of the {len(gains)} learned arms that gain over none",
            "> 0.5, 95 % intervals above 0",
            len(helpful) / len(gains),
            None,
            len(helpful) > len(gains) / 2,
        ),
        positive(f"best learned arm ({best}) over {POLICY}", gain(results, best, POLICY)),
        *(positive(f"{arm} over {PLAIN} alone", gain(results, arm, PLAIN)) for arm in IMAGES),
        *(positive(f"{arm} over {POLICY} alone", gain(results, arm, POLICY)) for arm in JOINED),
    )


def arm_table(results: AblationResults) -> str:
    """Markdown: Dice by group of tests, gain over none over all tests, and seconds by arm."""
    lines = [
        "| arm | " + " | ".join(GROUPS) + " | against none, all | model, s | segmenter, s |",
        "|" + "---|" * (len(GROUPS) + 4),
    ]
    for arm in results.arms:
        scores = score_matrix(results, arm, BUDGET)
        cells = []
        for group in GROUPS:
            chosen = [case.startswith(f"{group}-") for case in results.cases]
            cells.append(f"{np.nanmean(scores[:, chosen]):.3f}")
        against = ""
        if arm != results.reference_arm:
            between = gain(results, arm, results.reference_arm).interval
            against = f"{between.mean:+.3f} [{between.low:+.3f}, {between.high:+.3f}]"
        runs = [run for run in results.runs if run.arm == arm]
        cells += [against, f"{np.mean([r.augmenter_seconds for r in runs]):.0f}"]
        cells.append(f"{np.mean([r.seconds for r in runs]):.0f}")
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def gain(results: AblationResults, arm: str, reference: str) -> PairedDifference:
    """Dice of an arm less that of another, paired by test image."""
    return paired_difference(*(score_matrix(results, name, BUDGET) for name in (arm, reference)))


def positive(name: str, gain: PairedDifference) -> Claim:
    """The claim that a difference lies above 0 with its interval."""
    between = gain.interval
    return Claim(
        name,
        "gain > 0 Dice, 95 % interval above 0",
        between.mean,
        (between.low, between.high),
        bool(between.low > 0),
    )
