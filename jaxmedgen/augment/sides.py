"""Labels that stand for a side of the body, and change places when an image is mirrored."""

import re
from collections.abc import Sequence
from typing import Any

Pairs = tuple[tuple[int, int], ...]
"""Label values that change places."""

_SIDE = re.compile(r"(?<![a-z])(left|right)(?![a-z])")


def lateral_pairs(class_names: Sequence[str]) -> Pairs:
    """Classes whose names differ by ``left`` and ``right`` alone, as pairs of label values.

    >>> lateral_pairs(("background", "left_hippocampus", "csf", "Right_Hippocampus"))
    ((1, 3),)
    """
    names = [name.lower() for name in class_names]
    pairs = []
    for value, name in enumerate(names):
        sides = set(_SIDE.findall(name))
        other = _SIDE.sub("right", name)
        if sides == {"left"} and other in names:
            pairs.append((value, names.index(other)))
    return tuple(pairs)


def swapped_labels(settings: Any, class_names: Sequence[str], *, merged: bool = False) -> Pairs:
    """The pairs of a configuration's group ``augment``: `swap_labels`, or by names if it is None.

    Args:
        settings: the group.
        class_names: of the classes that are predicted.
        merged: whether these are unions of label values, whose names tell nothing of the labels.

    Raises:
        ValueError: a pair that is not two different label values, or a value in two pairs.
    """
    chosen = settings.get("swap_labels")
    if chosen is None:
        return () if merged else lateral_pairs(class_names)
    pairs = tuple(tuple(pair) for pair in chosen)
    values = [value for pair in pairs for value in pair]
    fits = all(isinstance(value, int) and value >= 0 for value in values)
    if not fits or any(len(pair) != 2 for pair in pairs) or len(set(values)) < len(values):
        raise ValueError(
            f"augment.swap_labels={pairs}: give pairs of label values, each value once, as "
            "((1, 2), (3, 4))"
        )
    return pairs


def mirrored_classes(pairs: Pairs, classes: int, target_of: Sequence[int] = ()) -> list[int]:
    """Class whose channel of a mirrored prediction takes each place.

    Args:
        pairs: label values.
        classes: number of predicted classes.
        target_of: class of each label value, where labels are merged for prediction.

    Raises:
        ValueError: a pair beyond the label values.
    """
    order = list(range(classes))
    for pair in pairs:
        if max(pair) >= (len(target_of) or classes):
            raise ValueError(
                f"augment.swap_labels has {pair}, label values end at "
                f"{(len(target_of) or classes) - 1}"
            )
        left, right = (target_of[v] if target_of else v for v in pair)
        order[left], order[right] = right, left
    return order
