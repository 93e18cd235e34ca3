"""Subjects that the tests of synthetic sets share."""

import pytest

from jaxmedgen.data.phantoms.heart_slices import HeartSlices
from jaxmedgen.data.sources import in_memory


@pytest.fixture(scope="module")
def hearts():
    return in_memory(HeartSlices(6, seed=2, vendors=("A", "B"), diseases=("NOR",)))
