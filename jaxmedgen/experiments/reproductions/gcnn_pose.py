"""``bin/reproduce gcnn_pose``: a network trained on one pose, shown others.

Sheet of the group-equivariant networks, "how to show it works here": claim A (pose), and exact
equivariance of trained networks. The other parts are `gcnn_unet`.
"""

from jaxmedgen.experiments.reproductions.gcnn import pose
from jaxmedgen.experiments.reproductions.record import Options, Reproduction


def reproduce(options: Options) -> Reproduction:
    """Runs the part (finished trainings are taken over) and checks the claims."""
    part = pose.run(options)
    return Reproduction(
        system="gcnn_unet",
        seeds=pose.SEEDS,
        seconds=part.seconds,
        claims=part.claims,
        table=part.table,
        pictures=part.pictures,
        notes=part.notes,
    )
