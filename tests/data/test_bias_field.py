"""Bias fields: a known one is found, and what cannot be corrected is refused."""

import numpy as np
import pytest

from jaxmedgen.data.bias_field import without_bias_field


def test_a_known_field_is_divided_out():
    """Two tissues of constant intensity under a smooth factor become two intensities again."""
    pytest.importorskip("SimpleITK")
    axes = np.meshgrid(*[np.linspace(-1, 1, 32)] * 3, indexing="ij")
    radius = np.sqrt(sum(a**2 for a in axes))
    mask = radius < 0.9
    tissue = np.where(radius < 0.5, 150.0, 100.0)
    noise = np.random.default_rng(0).normal(0, 1, mask.shape)
    image = np.where(mask, (tissue + noise) * np.exp(0.3 * axes[0] - 0.2 * axes[1]), 0)
    image = image.astype(np.float32)[..., None]
    found = without_bias_field(image, mask, (20, 20))

    def spread(values):
        parts = [values[..., 0][mask & (tissue == t)] for t in (100.0, 150.0)]
        return [float(np.std(p) / np.mean(p)) for p in parts]

    before, after = spread(image), spread(found)
    assert all(a < 0.4 * b for a, b in zip(after, before)), (before, after)
    assert (found[~mask] == 0).all()


def test_shifted_intensities_are_refused():
    pytest.importorskip("SimpleITK")
    image, mask = np.full((4, 4, 4, 1), -1, np.float32), np.ones((4, 4, 4), bool)
    with pytest.raises(ValueError, match="not positive: give raw ones"):
        without_bias_field(image, mask)
    with pytest.raises(ValueError, match="mask is empty"):
        without_bias_field(image, ~mask)
