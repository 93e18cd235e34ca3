"""Regions: unions of classes that are scored instead of the classes, as BraTS does.

BraTS scores the enhancing tumour, the tumour core and the whole tumour, of which each holds the one
before: of the classes 1 necrotic, 2 oedema, 3 enhancing (4 in the files) these are
``ET=3,TC=1+3,WT=1+2+3``. A region that is absent from reference and prediction scores 1 there.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from jaxmedgen.metrics.segmentation import Absent


@dataclasses.dataclass(frozen=True)
class Scoring:
    """What is scored of a case, and how; see `metrics.segmentation.evaluate_case`.

    Attributes:
        regions: label values by name; None scores each foreground class.
        absent: what a structure counts that neither mask has.
    """

    regions: Mapping[str, Sequence[int]] | None = None
    absent: Absent = "excluded"


def parse_regions(text: str, class_names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Regions from ``NAME=CLASS+CLASS,NAME=CLASS``; classes by number or by name.

    Raises:
        ValueError: no such class, the background, a region without a name or named twice.
    """
    regions: dict[str, tuple[int, ...]] = {}
    for part in text.split(","):
        name, equals, members = (p.strip() for p in part.partition("="))
        if not name or not equals or not members:
            raise ValueError(f"region '{part}': give NAME=CLASS+CLASS, such as TC=1+3")
        if name in regions:
            raise ValueError(f"region '{name}' is named twice")
        regions[name] = tuple(_number(m.strip(), class_names, name) for m in members.split("+"))
    return regions


def _number(text: str, class_names: Sequence[str], region: str) -> int:
    value = list(class_names).index(text) if text in class_names else math.nan
    if text.isdigit():
        value = int(text)
    if not 0 < value < len(class_names):
        known = ", ".join(f"{k} {name}" for k, name in enumerate(class_names) if k)
        raise ValueError(f"class '{text}' of region {region} is none of {known}")
    return int(value)
