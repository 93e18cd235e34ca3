"""``bin/reproduce gcnn_pose``: a network trained on one pose, shown others.

Sheet of the group-equivariant networks, "how to show it works here": claim A (pose), and exact
equivariance of trained networks. The other parts are `gcnn_unet`.
"""

from jaxmedgen.experiments.reproductions.gcnn import pose
from jaxmedgen.experiments.reproductions.record import Options, Reproduction, of_part


def reproduce(options: Options) -> Reproduction:
    """Runs the part (finished trainings are taken over) and checks the claims."""
    return of_part("gcnn_unet", pose.SEEDS, pose.run(options))
