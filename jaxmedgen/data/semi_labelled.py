"""Training sets in which few subjects have a mask.

Which ones is a function of the seed; the others keep their images and lose their label map, so that
nothing downstream can look at it.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from jaxmedgen.data.sources import Record, Source, Wrapped
from jaxmedgen.data.splits import patient_of, ranked


@dataclasses.dataclass(frozen=True)
class SemiLabelled(Wrapped):
    """Another source with ``has_mask`` (float32, 1 or 0) and empty labels where it is 0.

    Attributes:
        labelled: numbers of those whose label is known.
    """

    labelled: frozenset[int]

    def __getitem__(self, index: int) -> Record:
        record, known = self.source[index], index in self.labelled
        label = record["label"] if known else np.zeros_like(record["label"])
        return {**record, "label": label, "has_mask": np.float32(known)}


def semi_labelled(
    source: Source,
    share: float | int,
    *,
    seed: int = 0,
    candidates: Sequence[int] | None = None,
    patient: Callable[[str], str] = patient_of,
) -> SemiLabelled:
    """Keeps the masks of about a share of the subjects, of whole patients at a time.

    Patients are taken in a seeded order until the share is reached; a smaller share is part of a
    larger one.

    Args:
        source: the subjects.
        share: of all subjects, above 0 and up to 1.
        seed: decides who.
        candidates: only these may be labelled (one kind of digit, say); all by default.
        patient: case name -> patient.

    Raises:
        ValueError: a share outside (0, 1], or too few candidates for it.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share={share} of labelled subjects: give a number above 0, at most 1")
    names = source.info.case_names
    allowed = range(len(names)) if candidates is None else candidates
    number = {names[i]: i for i in allowed}
    wanted, chosen = max(1, round(share * len(names))), []
    if len(number) < wanted:
        raise ValueError(
            f"{wanted} labelled subjects wanted ({share:g} of {len(names)}), only {len(number)} "
            "may be: lower the share"
        )
    for group in ranked(number, seed, patient):
        if len(chosen) >= wanted:
            break
        chosen += [number[name] for name in group]
    return SemiLabelled(source, frozenset(chosen))
