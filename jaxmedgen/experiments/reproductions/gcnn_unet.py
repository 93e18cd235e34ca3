"""``bin/reproduce gcnn_unet``: symmetry in the network, in the data, or nowhere.

Sheet of the group-equivariant networks, "how to show it works here": claim B (the talk's matched
features against matched parameters) and the harmonic texture task. Claim A (pose) and exact
equivariance are `gcnn_pose`, the talk's plot of Dice on truncated training sets `gcnn_truncated`.
"""

from jaxmedgen.experiments.reproductions.gcnn import sizes, textures
from jaxmedgen.experiments.reproductions.record import Options, Reproduction, joined

PARTS = {
    "Matched features and matched parameters": sizes,
    "Textures": textures,
}
PUBLISHED = {
    "CubeNet, V group, ModelNet10 accuracy": {
        "typical": 0.935,
        "best": 0.942,
        "with rotation averaging": 0.946,
    },
}


def reproduce(options: Options) -> Reproduction:
    """Runs both parts (finished trainings are taken over) and checks the claims."""
    found = joined([module.run(options) for module in PARTS.values()], tuple(PARTS))
    return Reproduction(
        system="gcnn_unet",
        seeds=min(module.SEEDS for module in PARTS.values()),
        seconds=found.seconds,
        claims=found.claims,
        published=PUBLISHED,
        table=found.table,
        pictures=found.pictures,
        notes=found.notes,
    )
