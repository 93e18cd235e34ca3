"""Elastic deformation of labels: folding, locked borders, parts, units; rotation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.augment.label_deformation import Elastic, Rotation, rotate_labels
from jaxmedgen.data.phantoms.short_axis_stack import ShortAxisStacks
from jaxmedgen.ops.field_measures import jacobian_determinant

SPACING, SHAPE = (2.5, 2.5), (64, 64)
KEYS = jax.random.split(jax.random.key(0), 64)


def test_fourteen_millimetres_do_not_fold_and_more_does():
    """8 points over 160 mm: the bound of Choi & Lee lies between 14 and 20 mm."""
    safe, wild = (Elastic(SPACING, displacement=(d, d)) for d in (14.0, 40.0))
    assert 14 < safe.limit(SHAPE) < 16  # TorchIO warns from 16 mm on

    @jax.jit
    def least(keys):
        return [jacobian_determinant(e.fields(keys, SHAPE)).min((1, 2)) for e in (safe, wild)]

    inside, beyond = least(KEYS)
    assert float(inside.min()) > 0
    assert float(beyond.min()) < 0


@pytest.fixture(scope="module")
def label():
    return jnp.asarray(ShortAxisStacks(1)[0]["label"][1])


def test_the_right_ventricle_alone_moves_under_the_left_one(label):
    part = Elastic(SPACING, displacement=(14.0, 14.0), only=3)
    whole = dataclasses.replace(part, only=None, order=1)
    several = jnp.broadcast_to(label, (8, *SHAPE))
    run = jax.jit(lambda keys, label: (part(keys, label), whole(keys, label)))
    alone, all_of_it = map(np.asarray, run(KEYS[:8], several))
    for value in (1, 2):
        np.testing.assert_array_equal(alone == value, np.asarray(several) == value)
    assert ((alone == 3) != (np.asarray(several) == 3)).any((1, 2)).all()
    assert set(np.unique(all_of_it)) <= {0, 1, 2, 3}  # no classes between classes
    assert ((all_of_it == 1) != (np.asarray(several) == 1)).any((1, 2)).all()


def test_amplitudes_are_in_mm_and_small_through_thick_slices():
    spacing = (10.0, 2.5, 2.5)
    elastic = Elastic(spacing, displacement=(10.0, 14.0), controls=(7, 8), probability=0.5)
    shape = (8, 32, 32)
    fields = np.asarray(jax.jit(lambda keys: elastic.fields(keys, shape))(KEYS))
    still = np.abs(fields).max((1, 2, 3, 4)) == 0
    assert 20 <= still.sum() <= 44
    mm = np.abs(fields[~still] * np.asarray(spacing))
    assert mm[..., 0].max() <= 1.0 and 4 < mm[..., 1:].max() <= 14.0
    again = np.asarray(jax.jit(lambda keys: elastic.fields(keys, shape))(KEYS[::-1]))
    np.testing.assert_allclose(again[::-1], fields, atol=1e-5)


def test_quarter_turns_are_those_of_numpy(label):
    turn = jax.jit(rotate_labels, static_argnums=2)
    quarter = jnp.asarray([np.pi / 2])
    turned = turn(label[None], quarter, SPACING)[0]
    assert any(np.array_equal(turned, np.rot90(np.asarray(label), k)) for k in (1, 3))
    volume = jnp.stack([label, label.T])[None]
    solid = turn(volume, quarter, (8.0, *SPACING))[0]
    assert any(
        np.array_equal(solid, np.rot90(np.asarray(volume[0]), k, axes=(1, 2))) for k in (1, 3)
    )
    rotation = Rotation(SPACING, probability=0.5)
    some = jax.jit(rotation)(KEYS, jnp.broadcast_to(label, (64, *SHAPE)))
    same = (np.asarray(some) == np.asarray(label)).all((1, 2))
    assert 16 <= same.sum() <= 48


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="at least 4 points"):
        Elastic(SPACING, controls=(3, 8))
    with pytest.raises(ValueError, match="displacement"):
        Elastic(SPACING, displacement=(5.0, 1.0))
