"""``bin/reproduce vae``: the variational autoencoder, its relatives and the linear shape model.

The source (J. J. Cerrolaza, "Variational autoencoders for medical imaging", AISIS 2019) states what
a VAE is for without numbers; the claims make its sentences measurable.
"""

from jaxmedgen.experiments.reproductions.record import Options, Reproduction
from jaxmedgen.experiments.reproductions.shape_vae.conditions import condition_part
from jaxmedgen.experiments.reproductions.shape_vae.masks import mask_part
from jaxmedgen.experiments.reproductions.shape_vae.models import SEEDS, STEPS, UNITS
from jaxmedgen.experiments.reproductions.shape_vae.shapes import (
    ellipse_part,
    linear_part,
    phantom_note,
)

SMALLER = (
    f"Encoders and decoders have one dense layer of {UNITS} units, {STEPS} steps of 64 masks: the "
    "convolutions of `configs/vae.py` take twelve times as long a step. One run of convolutions at "
    "half their width stands beside them."
)
CHOSEN = (
    "No setting was chosen by these scores: widths, steps, learning rate and warm-up were fixed "
    "beforehand."
)


def reproduce(options: Options) -> Reproduction:
    """Runs everything that is not finished yet and checks the claims."""
    parts = [linear_part(options), mask_part(options), ellipse_part(options)]
    parts.append(condition_part(options))
    return Reproduction(
        system="vae",
        seeds=SEEDS,
        seconds=sum(part.seconds for part in parts),
        claims=tuple(claim for part in parts for claim in part.claims),
        published={"all": "none: the talk gives no numbers for this part"},
        table="\n\n".join(part.table for part in parts),
        pictures={name: shown for part in parts for name, shown in part.pictures.items()},
        notes=(*(note for part in parts for note in part.notes), SMALLER, CHOSEN, phantom_note()),
    )
