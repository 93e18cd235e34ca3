"""Measured maps whose numbers are known: a scaling, and a field that folds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.augment.draws import Draw
from jaxmedgen.augment.spatial import Spatial
from jaxmedgen.experiments.deformation_quality import deformation_quality

KEYS = jax.random.split(jax.random.key(0), 12)


def box():
    label = np.zeros((32, 32), np.int32)
    label[11:21, 12:20] = 1
    return label


def test_a_scaling_changes_lengths_and_volumes_as_it_should():
    settings = Spatial(spacing=(2.0, 2.0), scale=Draw(2.0, 2.0, p=0.5), flip_axes=(0, 1))
    found = deformation_quality(settings, KEYS, box())
    assert 0.2 < found.moved < 0.8
    assert found.folding == 0
    assert found.volume_change == pytest.approx(75, rel=0.05)  # a quarter is left
    # Sampled at twice the distance from the centre: corners move by 15.5 voxels an axis.
    assert found.max_displacement == pytest.approx(2 * 15.5 * 2**0.5, rel=1e-3)


def test_folds_are_counted_and_nothing_to_measure_is_said():
    def sample_field(keys):
        x = jnp.arange(32.0)
        fold = jnp.where((x > 7.5) & (x < 15.5), -2.0 * (x - 8), 0.0)  # det -1 on 8 of 32 rows
        field = jnp.stack([jnp.broadcast_to(fold[:, None], (32, 32)), jnp.zeros((32, 32))], -1)
        return jnp.broadcast_to(field, (len(keys), 32, 32, 2))

    found = deformation_quality(Spatial(spacing=(1.0, 1.0), sample_field=sample_field), KEYS, box())
    assert found.moved == 1
    assert 15 < found.folding < 30
    assert found.max_displacement == pytest.approx(14)
    with pytest.raises(ValueError, match="none of 12 draws"):
        deformation_quality(Spatial(spacing=(1.0, 1.0), rotation=Draw(0, 0)), KEYS, box())
