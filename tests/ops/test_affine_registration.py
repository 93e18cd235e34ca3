"""Affine registration finds known maps, and aligns a group."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.ops.affine_registration import FAMILY, register_affine
from jaxmedgen.ops.fields import identity_grid
from jaxmedgen.ops.resample import resample

SHAPE = (24, 20)


def _image(points=None):
    """A long bright body and a small part beside its axis, smooth so that they can be sampled."""
    grid = identity_grid(SHAPE) if points is None else points
    y, x = jnp.moveaxis(grid - (jnp.array(SHAPE) - 1) / 2, -1, 0)
    body = jnp.exp(-((y / 5) ** 2) - (x / 3) ** 2)
    part = jnp.exp(-((y - 3) ** 2 + (x - 1) ** 2) / 5)
    return jnp.stack([body, part], -1)


def _moved(parameters):
    return _image(FAMILY.coordinates(parameters, SHAPE))


def test_registration_undoes_known_maps():
    truth = jnp.array([[0.1, 0.05, 0.08, -0.1, -0.05, 0.05], [-0.1, 0.1, -0.1, 0.0, 0.1, 0.1]])
    found = register_affine(_moved(truth), _image(), smoothing=(2.0, 0.5))
    # x(phi(p)) = T x; the inverse has the negative parameters.
    np.testing.assert_allclose(found, -truth, atol=0.02)


def test_a_group_is_aligned_to_its_own_mean():
    own = 0.1 * jax.random.normal(jax.random.key(0), (5, FAMILY.size(SHAPE)))
    images = _moved(own)
    found = register_affine(images, smoothing=(2.0, 0.5))
    aligned = resample(images, FAMILY.coordinates(found, SHAPE), mode="constant")
    np.testing.assert_allclose(found.sum(0), 0, atol=1e-5)
    assert jnp.var(aligned, 0).sum() < 0.1 * jnp.var(images, 0).sum()


def test_what_cannot_be_aligned():
    with pytest.raises(ValueError, match="give a target or two"):
        register_affine(_image()[None])
    with pytest.raises(ValueError, match="one grid"):
        register_affine(_image()[None], _image()[1:])
