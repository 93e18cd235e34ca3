"""``bin/reproduce gcnn_unet``: as many feature maps, or as many parameters?

Sheet of the group-equivariant networks, "how to show it works here": claim B, the talk's matched
features against matched parameters. Claim A (pose) and exact equivariance are `gcnn_pose`, the
talk's plot of Dice on truncated training sets `gcnn_truncated`, textures `gcnn_textures`.
"""

from jaxmedgen.experiments.reproductions.gcnn import sizes
from jaxmedgen.experiments.reproductions.record import Options, Reproduction, of_part

PUBLISHED = {
    "CubeNet, V group, ModelNet10 accuracy": {
        "typical": 0.935,
        "best": 0.942,
        "with rotation averaging": 0.946,
    },
}


def reproduce(options: Options) -> Reproduction:
    """Runs the part (finished trainings are taken over) and checks the claims."""
    return of_part("gcnn_unet", sizes.SEEDS, sizes.run(options), PUBLISHED)
