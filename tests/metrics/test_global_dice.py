"""Dice over a data set: streamed and at once, and not the mean of the cases."""

import numpy as np
import pytest

from jaxmedgen.metrics.global_dice import GlobalDice


def test_streaming_gives_the_dice_of_all_cases_together():
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1, 1, 1], size=(5, 6, 7)).astype(np.float32)
    label = rng.integers(0, 3, size=(5, 6, 7))
    running = GlobalDice(3)
    for one, classes in zip(p, label):
        running = running.add(one, classes)
    expected = [
        (2 * p[..., k][label == k].sum() + 1) / (p[..., k].sum() + (label == k).sum() + 1)
        for k in (1, 2)
    ]
    np.testing.assert_allclose(running.per_class, expected, rtol=1e-6)
    np.testing.assert_allclose(running.value, GlobalDice(3).add(p, label).value, rtol=1e-9)


def test_large_structures_weigh_more_than_small_ones():
    """A large one found and a small one missed: the mean of the cases would be one half."""
    large, small = np.zeros((2, 10, 10), np.int32)
    large[:], small[0, 0] = 1, 1
    found = np.stack([np.zeros((10, 10)), np.ones((10, 10))], -1)
    missed = found[..., ::-1].copy()
    value = GlobalDice().add(found, large).add(missed, small).value
    np.testing.assert_allclose(value, (200 + 1) / (201 + 1))
    with pytest.raises(ValueError, match="2 classes"):
        GlobalDice().add(found[..., :1], large)
