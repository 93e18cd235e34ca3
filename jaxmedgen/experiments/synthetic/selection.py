"""Subjects that are rendered more often than others: the tails of a population."""

from collections.abc import Callable

import numpy as np

from jaxmedgen.data.case_groups import groups_of
from jaxmedgen.data.sources import Source


def size_tails(source: Source, share: float = 0.25) -> tuple[int, ...]:
    """Numbers of the subjects whose foreground is smallest and largest, `share` of them each."""
    order = np.argsort([int((source[i]["label"] > 0).sum()) for i in range(len(source))])
    count = max(1, round(share * len(source)))
    return tuple(sorted({*map(int, order[:count]), *map(int, order[-count:])}))


def rare_groups(pattern: str) -> Callable[[Source], tuple[int, ...]]:
    """Numbers of the subjects outside of the largest group; of all where there is one only."""

    def chosen(source: Source) -> tuple[int, ...]:
        groups = groups_of(source.info.case_names, pattern)
        common = max(set(groups), key=lambda g: (groups.count(g), g))
        found = tuple(i for i, group in enumerate(groups) if group != common)
        return found or tuple(range(len(source)))

    return chosen
