"""``bin/reproduce genseg_digits_large``: GenSeg's published task on images of 128^2.

As `genseg_digits`, with 80 pieces of clutter; on a processor an hour and a half of a core.
"""

from jaxmedgen.experiments.reproductions import genseg_digits
from jaxmedgen.experiments.reproductions.record import Options, Reproduction

TAKES = ("data",)


def reproduce(options: Options) -> Reproduction:
    """Runs everything that is not finished yet and checks the order of the arms."""
    return genseg_digits.of_tasks(options, ("large",))
