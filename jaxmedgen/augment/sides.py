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


def swapped_labels(
    settings: Any, class_names: Sequence[str], target_of: Sequence[int] = ()
) -> Pairs:
    """Classes that a mirrored image exchanges, by a configuration's group ``augment``.

    That is its `swap_labels`, or by names if it is None.

    Args:
        settings: the group.
        class_names: of the classes.
        target_of: class of each label value, where labels are merged into the classes; the pairs of
            `swap_labels` are values before that.

    Raises:
        ValueError: a pair that is not two different label values, a value in two pairs, or pairs
            that do not carry over to the classes.
    """
    chosen = _chosen(settings)
    if chosen is None:
        return lateral_pairs(class_names)
    return _merged(chosen, target_of) if target_of else chosen


def generation_pairs(
    settings: Any, class_names: Sequence[str], target_of: Sequence[int] = ()
) -> Pairs:
    """Label values before merging that a mirrored label map exchanges.

    By names, the labels of a left class go with those of the right one in the order of their
    values: the names of the classes are all that is known.

    Args:
        settings: as for `swapped_labels`.
        class_names: of the classes.
        target_of: class of each label value, where labels are merged.

    Raises:
        ValueError: see `swapped_labels`, or a left class of more or fewer labels than the right.
    """
    chosen = _chosen(settings)
    if chosen is not None or not target_of:
        return lateral_pairs(class_names) if chosen is None else chosen
    pairs: list[tuple[int, int]] = []
    for sides in lateral_pairs(class_names):
        left, right = ([v for v, c in enumerate(target_of) if c == side] for side in sides)
        if len(left) != len(right):
            raise ValueError(
                f"data.target_of has label values {left} for {class_names[sides[0]]!r} and {right} "
                f"for {class_names[sides[1]]!r}: name the pairs that a flip exchanges by "
                "augment.swap_labels"
            )
        pairs.extend(zip(left, right))
    return tuple(pairs)


def mirrored_classes(pairs: Pairs, classes: int) -> list[int]:
    """Class whose channel of a mirrored prediction takes each place.

    Args:
        pairs: classes, from `swapped_labels`.
        classes: number of predicted classes.

    Raises:
        ValueError: a pair beyond the classes.
    """
    order = list(range(classes))
    for left, right in pairs:
        _check_end((left, right), classes)
        order[left], order[right] = right, left
    return order


def _chosen(settings: Any) -> Pairs | None:
    """The checked `swap_labels` of the group ``augment``, or None."""
    chosen = settings.get("swap_labels")
    if chosen is None:
        return None
    pairs = tuple(tuple(pair) for pair in chosen)
    values = [value for pair in pairs for value in pair]
    fits = all(isinstance(value, int) and value >= 0 for value in values)
    if not fits or any(len(pair) != 2 for pair in pairs) or len(set(values)) < len(values):
        raise ValueError(
            f"augment.swap_labels={pairs}: give pairs of label values, each value once, as "
            "((1, 2), (3, 4))"
        )
    return pairs


def _merged(pairs: Pairs, target_of: Sequence[int]) -> Pairs:
    """Pairs of classes for pairs of label values; those within one class fall away."""
    other = list(range(len(target_of)))
    for left, right in pairs:
        _check_end((left, right), len(target_of))
        other[left], other[right] = right, left
    mirror: dict[int, int] = {}
    for value, kind in enumerate(target_of):
        image = target_of[other[value]]
        if mirror.setdefault(kind, image) != image:
            raise ValueError(
                f"augment.swap_labels={pairs} would mirror class {kind} of data.target_of to class "
                f"{mirror[kind]} and to class {image}: merge left and right labels alike"
            )
    return tuple(sorted((left, right) for left, right in mirror.items() if left < right))


def _check_end(pair: tuple[int, int], count: int) -> None:
    if max(pair) >= count:
        raise ValueError(f"augment.swap_labels has {pair}, label values end at {count - 1}")
