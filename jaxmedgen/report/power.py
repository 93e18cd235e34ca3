"""Whether a study of so many test patients and comparisons can call any difference significant."""

from jaxmedgen.metrics import statistics

ALPHA = 0.05

FEW_CASES = 10
"""Below this many cases bootstrap intervals cover the truth clearly less often than they claim."""


def needed_cases(comparisons: int) -> int:
    """The fewest test cases with which so many comparisons may give a corrected p below `ALPHA`."""
    cases = 1
    while comparisons * statistics.smallest_p_value(cases) >= ALPHA:
        cases += 1
    return cases


def lacks_power(cases: int, comparisons: int) -> str:
    """A note where no difference, however large, can be significant; empty where one can.

    Args:
        cases: test patients, the fewest of all comparisons.
        comparisons: that Holm's correction runs over, one or more.
    """
    floor = min(1.0, comparisons * statistics.smallest_p_value(cases))
    if floor < ALPHA:
        return ""
    counts = f"{cases} test {'case' if cases == 1 else 'cases'} and {comparisons} "
    counts += "comparison" if comparisons == 1 else "comparisons"
    return (
        f"With {counts} the smallest possible corrected p-value is {floor:.3f}: no difference, "
        "however large, can be called significant here. That takes "
        f"{needed_cases(comparisons)} test cases, and more for small differences; until then read "
        "the intervals."
    )
