"""The voxel size that scans are brought to, as a configuration says it."""

from collections.abc import Sequence

WORDS = ("fit", "median", "native")


def target_spacing(
    value: str | float | int | Sequence[float | int] | None,
) -> tuple[float, ...] | str | None:
    """``data.spacing`` as `Preprocessing` takes it.

    Args:
        value: millimetres, one number for all axes of a volume or one an axis (RAS+), as numbers
            or as text with or without brackets; or ``fit``, ``median`` (None is that too),
            ``native``.

    Returns:
        Millimetres an axis, ``"fit"``, ``"native"``, or None for the median.

    Raises:
        ValueError: neither numbers nor one of the words.
    """
    if value is None or value == "median":
        return None
    if isinstance(value, str) and value in WORDS:
        return value
    if isinstance(value, str):
        parts: Sequence = _without_brackets(value).rstrip(", ").split(",")
    else:
        parts = (value,) if isinstance(value, int | float) else tuple(value)
    try:
        numbers = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        numbers = ()
    if not numbers:
        raise ValueError(
            f"data.spacing='{value}': give mm such as 2 or 1,1,3, or {', '.join(WORDS)}"
        )
    return numbers * 3 if len(numbers) == 1 else numbers


def _without_brackets(text: str) -> str:
    text = text.strip()
    closed = text[:1] + text[-1:] in ("()", "[]")
    return text[1:-1] if closed else text
