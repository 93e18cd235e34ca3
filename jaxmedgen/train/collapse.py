"""Signs of a failing adversarial or variational training in its logged numbers.

These names are watched, with or without an objective's name in front: ``diversity`` (of generated
samples in units of the real ones', `losses.adversarial.relative_diversity`), ``style_diversity``
(of samples of one input, `losses.style_diversity`), ``discriminator_accuracy``, and ``kl`` or
``kl_LEVEL`` (nats that a posterior says about its sample, `losses.variational.negative_elbo`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

_LEAST_DIVERSITY = 0.05
_LEAST_STYLE_DIVERSITY = 0.01
"""Styles may change a small part of an image, a finding say, but not nothing."""
_LARGEST_ACCURACY = 0.99
_LEAST_DIVERGENCE = 0.05
"""Nats of a whole latent level."""
_LINES = 5
"""So many lines of the log in a row must show a sign: single steps tell nothing."""

_SHOWN = 3
"""Times that a sign showed, at most so many of which are told."""

Lines = Sequence[Mapping[str, float | int | str | None]]


class _Spell(NamedTuple):
    """First and last step of a long enough row of lines with a sign."""

    first: int
    last: int
    lasts: bool
    """Whether no line without the sign follows."""


def collapse_warnings(lines: Lines) -> tuple[str, ...]:
    """What is or was wrong with a training, a sentence each; empty if nothing is.

    It tells when: the last three times of each sign, and whether it lasts to the end.

    Args:
        lines: of ``metrics.jsonl`` with ``step``, split ``train``, in order.
    """
    found = []
    for sign, spells in _signs(lines).items():
        times = ", ".join(f"{spell.first} to {spell.last}" for spell in spells[-_SHOWN:])
        often = f" {len(spells)} times, the last" if len(spells) > _SHOWN else ""
        end = " to the end," if spells[-1].lasts else ", but not at the end,"
        found.append(f"{sign}{end}{often} in steps {times}")
    return tuple(found)


class CollapseWatch:
    """Says each sign when it shows, and again when it comes back."""

    def __init__(self, lines: Lines = ()) -> None:
        """Starts from the lines that a resumed run has logged already."""
        self._lines = list(lines)
        self._known = set(self._lasting())

    def add(self, step: int, means: Mapping[str, float | int]) -> tuple[str, ...]:
        """Takes one more line; returns what is new."""
        self._lines.append({"step": step, **means})
        now = self._lasting()
        new = [
            f"{s} in steps {x.first} to {x.last}" for s, x in now.items() if s not in self._known
        ]
        self._known = set(now)  # what has ended is forgotten
        return tuple(new)

    def _lasting(self) -> dict[str, _Spell]:
        return {s: spells[-1] for s, spells in _signs(self._lines).items() if spells[-1].lasts}


def _signs(lines: Lines) -> dict[str, list[_Spell]]:
    """When each sign showed; those that never did are left out."""
    found = {}
    for name in dict.fromkeys(name for line in lines for name in line):
        last = name.split("/")[-1]
        if last == "diversity":
            spells = _spells(lines, name, lambda value: value < _LEAST_DIVERSITY)
            sign = f"samples hardly vary ({name} < {_LEAST_DIVERSITY}): the generator collapsed"
        elif last == "style_diversity":
            spells = _spells(lines, name, lambda value: value < _LEAST_STYLE_DIVERSITY)
            sign = f"drawn styles are ignored ({name} < {_LEAST_STYLE_DIVERSITY})"
        elif last == "discriminator_accuracy":
            spells = _spells(lines, name, lambda value: value > _LARGEST_ACCURACY)
            sign = f"the discriminator is saturated ({name} > {_LARGEST_ACCURACY})"
        elif last == "kl" or last.startswith("kl_"):
            spells = _spells(lines, name, lambda value: abs(value) < _LEAST_DIVERGENCE)
            sign = f"posterior collapse ({name} < {_LEAST_DIVERGENCE} nats): it says nothing"
        else:
            continue
        if spells:
            found[sign] = spells
    return found


def _spells(lines: Lines, name: str, bad: Callable[[float], bool]) -> list[_Spell]:
    rows: list[list[int]] = [[]]
    for line in lines:
        value = line.get(name)
        # A line without the metric (an objective that runs now and then, a batch of one) neither
        # helps nor harms. The file has null where a number was not finite.
        if value is None or not math.isfinite(value):
            continue
        if bad(value):
            rows[-1].append(int(line["step"]))
        elif rows[-1]:
            rows.append([])
    return [_Spell(r[0], r[-1], r is rows[-1]) for r in rows if len(r) >= _LINES]
