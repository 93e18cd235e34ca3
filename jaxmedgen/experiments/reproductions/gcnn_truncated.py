"""``bin/reproduce gcnn_truncated``: the talk's plot of Dice on truncated training sets of brains.

Sheet of the group-equivariant networks, "how to show it works here". The other parts are
`gcnn_pose` and `gcnn_unet`.
"""

from jaxmedgen.experiments.reproductions.gcnn import truncated
from jaxmedgen.experiments.reproductions.record import Options, Reproduction, of_part

PUBLISHED = {
    "talk": "figures only: on truncated BraTS2019 the equivariant U-Nets do not beat the baseline; "
    "suspected cause: too few effective parameters (C4 with 3 filters, baseline with 12)"
}


def reproduce(options: Options) -> Reproduction:
    """Runs the part (finished trainings are taken over) and checks the claims."""
    return of_part("gcnn_unet", truncated.SEEDS, truncated.run(options), PUBLISHED)
