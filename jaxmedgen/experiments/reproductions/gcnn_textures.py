"""``bin/reproduce gcnn_textures``: locally rotation-invariant layers on textures.

Sheet of the group-equivariant networks, the harmonic claim. The other parts are `gcnn_unet`,
`gcnn_pose` and `gcnn_truncated`.
"""

from jaxmedgen.experiments.reproductions.gcnn import textures
from jaxmedgen.experiments.reproductions.record import Options, Reproduction, of_part


def reproduce(options: Options) -> Reproduction:
    """Runs the part (finished trainings are taken over) and checks the claims."""
    return of_part("gcnn_unet", textures.SEEDS, textures.run(options))
