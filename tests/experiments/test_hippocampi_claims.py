import dataclasses

import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.phantoms.hippocampus import Hippocampi
from jaxmedgen.experiments.reproductions import lvae_hippocampi as claims

SOURCE = Hippocampi(40, (24, 24, 24), seed=3)


def mean_masks(harmed: bool):
    subjects = [SOURCE.hippocampus(i) for i in range(len(SOURCE))]
    diseased = [h for h in subjects if h.shrinkage > 0]
    shown = diseased if harmed else [dataclasses.replace(h, shrinkage=0.0) for h in diseased]
    return np.mean([h.mask(SOURCE.shape) for h in shown], 0)[..., None]


def test_shrinkage_is_that_of_the_phantom_and_lies_in_the_head():
    exact = claims.shrinkage({0: mean_masks(False), 1: mean_masks(True)}, SOURCE)
    assert exact.correlation == pytest.approx(1)
    assert exact.in_head == pytest.approx(exact.true_in_head)
    assert exact.true_in_head > 0.95
    # A shape that shrinks everywhere alike is no disease of the head.
    healthy = mean_masks(False)
    everywhere = claims.shrinkage({0: healthy, 1: 0.9 * healthy}, SOURCE)
    assert 0.4 < everywhere.in_head < 0.65
    assert everywhere.correlation < 0.7
    grown = claims.shrinkage({0: healthy, 1: np.minimum(1.1 * healthy, 2)}, SOURCE)
    assert np.isnan(grown.in_head)
    text = claims.shape_table({"means": [exact, everywhere], "draws": [exact]}, [0.9, 0.5])
    assert text.count("\n| ") == 4 and "| 1.000 | 0.900 |" in text
    assert [c.holds for c in claims.shape_claims("means", [exact])] == [True, True]
    assert [c.holds for c in claims.shape_claims("means", [everywhere])] == [False, False]


def test_every_arm_of_the_claims_has_a_configuration():
    for arm in claims.ARMS:
        config = load_config(f"lvae:cpu,arm={arm},data=hippocampus")
        assert config.data.kind == "hippocampus"
        assert config.criterion.classification > 0
