"""``bin/reproduce gcnn_unet``: symmetry in the network, in the data, or nowhere.

Sheet of the group-equivariant networks, "how to show it works here": claim B (the talk's matched
features against matched parameters) and the harmonic texture task. Claim A (pose) and exact
equivariance are `gcnn_pose`, the talk's plot of Dice on truncated training sets `gcnn_truncated`.
"""

from jaxmedgen.experiments.reproductions.gcnn import sizes, textures
from jaxmedgen.experiments.reproductions.record import Options, Reproduction

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
    parts = {heading: module.run(options) for heading, module in PARTS.items()}
    return Reproduction(
        system="gcnn_unet",
        seeds=min(module.SEEDS for module in PARTS.values()),
        seconds=sum(part.seconds for part in parts.values()),
        claims=tuple(claim for part in parts.values() for claim in part.claims),
        published=PUBLISHED,
        table="\n\n".join(f"## {heading}\n\n{part.table}" for heading, part in parts.items()),
        pictures={name: image for part in parts.values() for name, image in part.pictures.items()},
        notes=tuple(note for part in parts.values() for note in part.notes),
    )
