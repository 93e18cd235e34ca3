"""``bin/reproduce unet``: the demo's study - few labels, a scanner that was never seen.

Sheet of the augmentations, "low-data effect": with few training images and a test set of another
pose, contrast and bias, a generic policy gains at least 0.08 Dice over none, a family at least 0.03
on its matching shift. The shift here is the scanner's, so the matching families are those that
change intensities.
"""

from jaxmedgen.experiments.reproductions import study
from jaxmedgen.experiments.reproductions.record import Options, Reproduction

ARMS = ("none", "classic", "diffeomorphic", "synthesis")
BUDGETS = (2, 6)
SEEDS = 2


def reproduce(options: Options) -> Reproduction:
    """Runs the study of ``bin/demo`` (or reads its finished runs) and checks the claims."""
    results, summary = study.run(
        options,
        config_name="demo",
        arms=ARMS,
        budgets=BUDGETS,
        seeds=SEEDS,
        dataset="embedded brain phantoms, test scanner other than training scanner",
    )
    claims = (
        study.gain(summary, "classic", 2, 0.08, "classic policy over none, 2 labelled brains"),
        study.gain(summary, "classic", 6, 0.08, "classic policy over none, 6 labelled brains"),
        study.gain(summary, "synthesis", 2, 0.03, "label-to-image synthesis over none, 2 labelled"),
        study.gain(summary, "diffeomorphic", 2, 0.03, "diffeomorphic policy over none, 2 labelled"),
    )
    return study.reproduction("unet", results, summary, claims, SEEDS)
