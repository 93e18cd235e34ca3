"""``bin/reproduce gcnn_textures``: locally rotation-invariant layers on textures.

Sheet of the group-equivariant networks, the harmonic claim. The other parts are `gcnn_unet`,
`gcnn_pose` and `gcnn_truncated`.
"""

from jaxmedgen.experiments.reproductions.gcnn import textures
from jaxmedgen.experiments.reproductions.record import Options, Reproduction


def reproduce(options: Options) -> Reproduction:
    """Runs the part (finished trainings are taken over) and checks the claims."""
    part = textures.run(options)
    return Reproduction(
        system="gcnn_unet",
        seeds=textures.SEEDS,
        seconds=part.seconds,
        claims=part.claims,
        table=part.table,
        notes=part.notes,
    )
