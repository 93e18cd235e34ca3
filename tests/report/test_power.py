import itertools

import pytest

from jaxmedgen.metrics.statistics import holm, paired_test
from jaxmedgen.report.power import ALPHA, lacks_power, needed_cases


@pytest.mark.parametrize("comparisons", [1, 4, 8])
def test_the_needed_cases_are_the_fewest_whose_best_outcome_is_significant(comparisons):
    """Against the tests themselves: every case gains the same, the other comparisons nothing."""
    for cases in itertools.count(2):
        p_values = [paired_test([0.1] * cases), *[1.0] * (comparisons - 1)]
        if min(holm(p_values)) < ALPHA:
            break
    assert needed_cases(comparisons) == cases
    assert lacks_power(cases, comparisons) == ""
    assert f"takes {cases} test cases" in lacks_power(cases - 1, comparisons)
