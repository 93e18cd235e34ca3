"""``bin/reproduce symmetry_or_deformation``: build the symmetry in, or learn the deformations?

The question behind group U-Nets, IT-VAE and PADDIT, on one task: six labelled images of
`augmentations`, lesions that vary little in training, and tests that vary in pose, in gamma and
bias field, or in both. Networks that are equivariant under quarter turns (and flips) are compared
with the same network without the symmetry, learned and random deformations with none, and both
kinds with each other by what they add to their own control: the networks are two architectures.
Both kinds are also joined with a policy that costs nothing, and a plain network that is as wide as
the symmetric one tells what its width is worth.
"""

import numpy as np

from jaxmedgen.experiments.reproductions.learned_augmentation import (
    BUDGET,
    POLICY,
    asked,
    gain,
    positive,
)
from jaxmedgen.experiments.reproductions.record import Claim, Options, Reproduction
from jaxmedgen.metrics.statistics import paired_difference
from jaxmedgen.report.results import AblationResults, score_matrix

SYMMETRIC = ("c4", "gunet-c4-features", "gunet-d4")
PLAIN = "gunet"
TURNED = "gunet-turned"
WIDE = "gunet-wide"
LEARNED = ("itvae-naive", "itvae-mixed", "paddit")
RANDOM = "deformation"
JOINED = tuple(f"{arm}+{POLICY}" for arm in ("itvae-mixed", "paddit"))
NETWORKS = (PLAIN, TURNED, WIDE, *SYMMETRIC)
JOINED_NETWORKS = tuple(f"{arm}+{POLICY}" for arm in (PLAIN, WIDE, "c4"))
ARMS = ("none", RANDOM, POLICY, *LEARNED, *JOINED, *NETWORKS, *JOINED_NETWORKS)
NOTES = (
    "No published figure: the talk asks the question and leaves it open. Claims are questions; the "
    "best arm of a kind is chosen by the same test images that it is then judged by.",
    f"{PLAIN} is the U-Net of the group networks without the symmetry: its loss and head differ "
    "from those of none, so that each kind is judged by what it adds to its own control.",
    "What the symmetry itself is worth c4 tells against gunet-wide, which has as many feature maps "
    "and four times its parameters; against gunet it has as many parameters and twice the feature "
    "maps, so that its gain is that of symmetry and width together.",
)


def reproduce(options: Options) -> Reproduction:
    """Runs the study (or reads its finished runs) and asks the questions."""
    return asked(options, ARMS, questions, NOTES)


def questions(results: AblationResults) -> tuple[Claim, ...]:
    """What either kind adds to its control, and which adds more."""
    symmetric = max(SYMMETRIC, key=lambda arm: gain(results, arm, PLAIN).interval.mean)
    learned = max(LEARNED, key=lambda arm: gain(results, arm, "none").interval.mean)
    added = [
        score_matrix(results, arm, BUDGET) - score_matrix(results, control, BUDGET)
        for arm, control in ((symmetric, PLAIN), (learned, "none"))
    ]
    return (
        positive(f"best symmetric network ({symmetric}) over {PLAIN}",
                 gain(results, symmetric, PLAIN)),
        positive(f"best symmetric network ({symmetric}) over {TURNED}, turns in training",
                 gain(results, symmetric, TURNED)),
        positive(f"best symmetric network ({symmetric}) over {WIDE}",
                 gain(results, symmetric, WIDE)),
        positive(f"best learned deformation ({learned}) over none", gain(results, learned, "none")),
        positive(f"best learned deformation ({learned}) over random ones ({RANDOM})",
                 gain(results, learned, RANDOM)),
        positive(f"what {symmetric} adds less what {learned} adds", paired_difference(*added)),
        *(positive(f"{arm} over {POLICY} alone", gain(results, arm, POLICY)) for arm in JOINED),
        *(positive(f"c4+{POLICY} over {arm}", gain(results, f"c4+{POLICY}", arm))
          for arm in JOINED_NETWORKS[:-1]),
        _pose(results, symmetric),
    )  # fmt: skip


def _pose(results: AblationResults, symmetric: str) -> Claim:
    """Whether symmetry pays where it should: more in tests of pose than in those of intensity."""
    means = []
    for group in ("pose-", "intensity-"):
        chosen = [case.startswith(group) for case in results.cases]
        ours, theirs = (score_matrix(results, arm, BUDGET)[:, chosen] for arm in (symmetric, PLAIN))
        means.append(float(np.nanmean(ours) - np.nanmean(theirs)))
    return Claim(
        f"gain of {symmetric} over {PLAIN}, tests of pose less those of intensity",
        "> 0 Dice",
        means[0] - means[1],
        None,
        means[0] > means[1],
    )
