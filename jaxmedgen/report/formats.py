"""Numbers as the page and the terminal write them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxmedgen.metrics import statistics


def interval(value: statistics.Interval) -> str:
    """``0.812 [0.790, 0.834]``; the mean alone where there is no interval."""
    if value.method == "single":
        return f"{value.mean:.3f}"
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"


def difference(value: statistics.PairedDifference | None) -> str:
    """``+0.031 [+0.012, +0.050]`` with a true minus sign; a dash for none."""
    if value is None:
        return "—"
    i = value.interval
    text = f"{i.mean:+.3f}"
    if i.method != "single":
        text += f" [{i.low:+.3f}, {i.high:+.3f}]"
    return minus(text)


def over_seeds(values: Sequence[float] | Float[np.ndarray, " n"], digits: int = 3) -> str:
    """``0.694 (0.031)``: mean and sample standard deviation; the mean alone of one value."""
    text = f"{np.mean(values):.{digits}f}"
    return text + (f" ({np.std(values, ddof=1):.{digits}f})" if len(values) > 1 else "")


def p_value(value: float | None) -> str:
    """Three digits, ``< 0.001`` below, a dash for none."""
    if value is None:
        return "—"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def duration(seconds: float | int) -> str:
    """``42 s``, ``7.5 min`` or ``3.2 h``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def minus(text: str) -> str:
    """Hyphens as minus signs, which are as wide as the plus."""
    return text.replace("-", "\N{MINUS SIGN}")


def setting(value: Any) -> str:
    """A setting as text: nested mappings as ``name=value`` pairs."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={setting(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(setting(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
