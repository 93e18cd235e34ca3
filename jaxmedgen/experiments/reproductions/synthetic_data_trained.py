"""``bin/reproduce synthetic_data_trained``: are the images of a trained generator of use?

Experiments 1 to 3 of `synthetic_data_evaluation` with SPADE and its encoder of styles in place of
the oracle, trained on the subjects that each arm may see and nobody else: what is left of the
oracle's gains when the generator has to be learnt from the same few hearts. Styles of vendors that
the generator has not seen are codes of a few unlabelled images of theirs.
"""

import dataclasses
import functools

from jaxmedgen.experiments.reproductions.record import Options, Reproduction, joined, of_part
from jaxmedgen.experiments.reproductions.synthetic import usefulness
from jaxmedgen.experiments.reproductions.synthetic.parts import SEEDS, Trained
from jaxmedgen.experiments.reproductions.synthetic_data_evaluation import PUBLISHED

GENERATOR = Trained("cardiac_synthesis:cpu,arm=vae", 500)
EXPERIMENTS = {
    "1. Augmentation": usefulness.augmentation,
    "2. Reduction of real data": usefulness.reduction,
    "3. Domain shift": usefulness.domain_shift,
}
NOTES = (
    f"The generator is SPADE with an encoder of styles (`configs/{GENERATOR.config}`), "
    f"{GENERATOR.steps} steps of 8 slices on the arm's own hearts, 3 slices each; thresholds are "
    "those of the oracle, which renders images exactly.",
    "Random styles are draws of the prior of codes that 8 hearts of vendor A (in the reduction, of "
    "A and B) have taught; the style of vendor C is the code of 4 unlabelled images of C, which "
    "the encoder has never seen the like of.",
)


def reproduce(options: Options) -> Reproduction:
    """Runs the three experiments (finished trainings are taken over) and checks the claims."""
    runs = {
        name: functools.partial(part, generator=GENERATOR) for name, part in EXPERIMENTS.items()
    }
    found = joined([part(options) for part in runs.values()], tuple(runs))
    found = dataclasses.replace(found, notes=(*NOTES, *found.notes))
    return of_part("synthetic_data_evaluation", SEEDS, found, PUBLISHED)
