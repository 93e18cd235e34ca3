"""``bin/reproduce augmentations_volumes``: the claims of `augmentations` on volumes of 24^3.

Families, policies and mixing; six training volumes, the network and the steps of the images. A
run takes two minutes of a core, where one of images takes a quarter of one.
"""

from jaxmedgen.experiments.reproductions.augmentations import (
    FAMILIES,
    MIXING,
    POLICIES,
    SEEDS,
    of_arms,
)
from jaxmedgen.experiments.reproductions.record import Options, Reproduction

ARMS = ("none", *FAMILIES, *MIXING, *POLICIES)
SHAPE = "24,24,24"


def reproduce(options: Options) -> Reproduction:
    """Runs the study (or reads its finished runs) and checks the claims group by group."""
    return of_arms(options, ARMS, SEEDS, {"data.shape": SHAPE})
