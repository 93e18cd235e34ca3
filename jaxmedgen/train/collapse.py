"""Signs of a failing adversarial or variational training in its logged numbers.

These names are watched, with or without an objective's name in front: ``diversity`` (of generated
samples in units of the real ones', `losses.adversarial.relative_diversity`), ``style_diversity``
(of samples of one input, `losses.style_diversity`), ``discriminator_accuracy``, and ``kl`` or
``kl_LEVEL`` (nats that a posterior says about its sample, `losses.variational.negative_elbo`).
"""

from collections.abc import Mapping, Sequence

_LEAST_DIVERSITY = 0.05
_LEAST_STYLE_DIVERSITY = 0.01
"""Styles may change a small part of an image, a finding say, but not nothing."""
_LARGEST_ACCURACY = 0.99
_LEAST_DIVERGENCE = 0.05
"""Nats of a whole latent level."""
_LINES = 5
"""So many lines of the log in a row must show a sign: single steps tell nothing."""

_STEPS = " in steps "


def collapse_warnings(lines: Sequence[Mapping[str, float | int | str | None]]) -> tuple[str, ...]:
    """What is wrong with a training, a sentence each; empty if nothing is.

    Args:
        lines: of ``metrics.jsonl`` with ``step``, split ``train``, in order.
    """
    names = dict.fromkeys(name for line in lines for name in line)
    found = []
    for name in names:
        last = name.split("/")[-1]
        if last == "diversity":
            where = _spell(lines, name, lambda value: value < _LEAST_DIVERSITY)
            sign = f"samples hardly vary ({name} < {_LEAST_DIVERSITY}): the generator collapsed"
        elif last == "style_diversity":
            where = _spell(lines, name, lambda value: value < _LEAST_STYLE_DIVERSITY)
            sign = f"drawn styles are ignored ({name} < {_LEAST_STYLE_DIVERSITY})"
        elif last == "discriminator_accuracy":
            where = _spell(lines, name, lambda value: value > _LARGEST_ACCURACY)
            sign = f"the discriminator is saturated ({name} > {_LARGEST_ACCURACY})"
        elif last == "kl" or last.startswith("kl_"):
            where = _spell(lines, name, lambda value: abs(value) < _LEAST_DIVERGENCE)
            sign = f"posterior collapse ({name} < {_LEAST_DIVERGENCE} nats): it says nothing"
        else:
            continue
        if where is not None:
            found.append(f"{sign}{_STEPS}{where[0]} to {where[1]}")
    return tuple(found)


class CollapseWatch:
    """Says each sign once, when it first shows."""

    def __init__(self, lines: Sequence[Mapping[str, float | int | str | None]] = ()) -> None:
        """Starts from the lines that a resumed run has logged already."""
        self._lines = list(lines)
        self._known = set(map(_sign, collapse_warnings(self._lines)))

    def add(self, step: int, means: Mapping[str, float | int]) -> tuple[str, ...]:
        """Takes one more line; returns what is new."""
        self._lines.append({"step": step, **means})
        new = [w for w in collapse_warnings(self._lines) if _sign(w) not in self._known]
        self._known |= set(map(_sign, new))
        return tuple(new)


def _sign(warning: str) -> str:
    """A warning without its steps, which grow while the sign lasts."""
    return warning.rpartition(_STEPS)[0]


def _spell(lines, name, bad) -> tuple[int, int] | None:
    """First and last step of the first long enough row of lines with a sign."""
    row: list[int] = []
    for line in [*lines, {"step": -1}]:
        value = line.get(name)
        if value is not None and bad(value):
            row.append(int(line["step"]))
            continue
        # A line without the metric (an objective that runs now and then) neither helps nor harms.
        if value is None and line["step"] >= 0:
            continue
        if len(row) >= _LINES:
            return row[0], row[-1]
        row = []
    return None
