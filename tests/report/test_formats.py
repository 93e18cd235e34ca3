"""Numbers as text."""

import numpy as np

from jaxmedgen.report import formats


def test_means_over_seeds():
    """0.1, 0.2, 0.3: the sample deviation is 0.1; one seed has none."""
    assert formats.over_seeds([0.1, 0.2, 0.3]) == "0.200 (0.100)"
    assert formats.over_seeds(np.array([12.34]), 1) == "12.3"
